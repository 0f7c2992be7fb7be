// molt's matrix products beside oneDNN's, on the same packed bytes, one thread: docs/decisions/matrix-products.md rests
// on this. Built where oneDNN is installed (libdnnl-dev).
//
// Names are <who>/<dtype>/K:<in>/N:<out>/T:<rows>. molt's time includes rounding x to bfloat16, oneDNN is given it
// rounded. Before measuring, both must agree; they do to float32 rounding.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/packed_matrix.h"

namespace molt {
namespace {

using dnnl::memory;

struct Problem {
  DType dtype;
  std::int64_t k, n, rows;
  Tensor x;          // [rows, k], numbers that bfloat16 holds exactly
  Tensor x_rounded;  // as dtype
  std::unique_ptr<PackedMatrix> weights;

  Problem(DType dtype_, std::int64_t k_, std::int64_t n_, std::int64_t rows_)
      : dtype(dtype_), k(k_), n(n_), rows(rows_), x(Tensor::zeros(DType::f32, {rows_, k_})) {
    Random random(1);
    Tensor weight = Tensor::zeros(DType::f32, {n, k});
    for (std::int64_t i = 0; i < weight.size(); ++i) weight.as<float>()[i] = static_cast<float>(random.uniform(-1, 1));
    for (std::int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = static_cast<float>(random.next() % 256) / 128 - 1;
    x_rounded = dtype == DType::bf16 ? x.to_bf16() : x;
    weights = pack_panels(weight, dtype);
  }
};

/// oneDNN's product of a problem, its weights tagged as the layout that both share.
class OneDnn {
 public:
  OneDnn(const Problem& problem, Matrix<float> y) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const bool bf16 = problem.dtype == DType::bf16;
    const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::desc x({problem.rows, problem.k}, type, memory::format_tag::ab);
    const memory::desc w({problem.k, problem.n}, type,
                         bf16 ? memory::format_tag::BA16a64b2a : memory::format_tag::BA16a64b);
    const memory::desc out({problem.rows, problem.n}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description({x, w, out}, engine_);
    implementation_ = description.impl_info_str();
    matmul_ = dnnl::matmul(description);
    const auto* panels = static_cast<const PackedPanels*>(problem.weights.get());
    arguments_ = {{DNNL_ARG_SRC, memory(x, engine_, problem.x_rounded.data())},
                  {DNNL_ARG_WEIGHTS, memory(w, engine_, const_cast<std::byte*>(panels->panel(0)))},
                  {DNNL_ARG_DST, memory(out, engine_, y.data)}};
  }

  void run() {
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }

  const std::string& implementation() const { return implementation_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::string implementation_;
  std::unordered_map<int, memory> arguments_;
};

void measure(benchmark::State& state, DType dtype, std::int64_t k, std::int64_t n, std::int64_t rows, bool ours) {
  set_num_threads(1);
  omp_set_num_threads(1);
  const Problem problem(dtype, k, n, rows);
  const Tensor y = Tensor::zeros(DType::f32, {rows, n});
  const Tensor peer_y = Tensor::zeros(DType::f32, {rows, n});
  OneDnn peer(problem, peer_y.matrix());
  peer.run();
  panel_matmul(problem.x.matrix(), *problem.weights, nullptr, y.matrix());
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (!(std::abs(y.as<float>()[i] - peer_y.as<float>()[i]) < 1e-3)) throw std::runtime_error("the products differ");
  }
  for ([[maybe_unused]] auto _ : state) {
    if (ours) {
      panel_matmul(problem.x.matrix(), *problem.weights, nullptr, y.matrix());
    } else {
      peer.run();
    }
  }
  const double flops = 2.0 * static_cast<double>(state.iterations() * rows * k * n);
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  if (!ours) state.SetLabel(peer.implementation());
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  using molt::DType;
  benchmark::Initialize(&argc, argv);
  const std::pair<std::int64_t, std::int64_t> shapes[] = {
      {768, 3352}, {1536, 768}, {768, 3072}, {1536, 80}, {48, 1536}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [k, n] : shapes) {
      for (const std::int64_t rows : {1, 4, 16, 128, 512}) {
        for (const bool ours : {true, false}) {
          const std::string name =
              fmt::format("{}/{}/K:{}/N:{}/T:{}", ours ? "molt" : "onednn", molt::name_of(dtype), k, n, rows);
          benchmark::RegisterBenchmark(name.c_str(), [=, k = k, n = n](benchmark::State& state) {
            molt::measure(state, dtype, k, n, rows, ours);
          })->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
