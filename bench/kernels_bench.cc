// Speed of every op but the matrix product, at the shapes of mamba-130m and mamba2-130m where no others are given, for
// a prompt of 512 tokens and for one token; the scans and the ops of token reduction at those of several models, for a
// prompt of 2048. Names are op/rows/...; bytes count each input and output once. Arguments before Google Benchmark's
// own: --backend=NAME, --isa=NAME, --threads=N.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/problems.h"

namespace molt {
namespace {

using testing_kernels::Floats;
using testing_kernels::Random;

/// Rows that begin at a cache line, with `gap` floats after each.
class Rows {
 public:
  Rows(std::int64_t rows, std::int64_t cols, std::int64_t gap)
      : memory_(Tensor::zeros(DType::f32, {rows, cols + gap})), cols_(cols) {}
  Rows(std::int64_t rows, std::int64_t cols, std::int64_t gap, Random& random, float scale = 1)
      : Rows(rows, cols, gap) {
    fill([&] { return scale * random.normal(); });
  }
  template <class Value>
  void fill(Value value) {
    for (std::int64_t i = 0; i < memory_.size(); ++i) memory_.as<float>()[i] = value();
  }
  Matrix<float> matrix() const { return memory_.matrix().col_range(0, cols_); }

 private:
  Tensor memory_;
  std::int64_t cols_;
};

std::shared_ptr<const Backend> backend;

constexpr std::int64_t kModel = 768, kInner = 1536, kHeads = 24, kHeadDim = 64;

/// Reports `bytes` moved and `flops` done by each iteration.
void report(benchmark::State& state, double bytes, double flops) {
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = Counter(flops / 1e9, Counter::kIsIterationInvariantRate);
}

void rms_norm(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0);
  const Rows x(rows, kModel, 0, random);
  const Floats weight = random.normals(kModel);
  Rows y(rows, kModel, 0);
  for (auto _ : state) backend->rms_norm(x.matrix(), weight.data(), 1e-5F, y.matrix());
  report(state, 8.0 * rows * kModel, 4.0 * rows * kModel);
}

void add_rms_norm(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0);
  Rows residual(rows, kModel, 0, random);
  const Rows h(rows, kModel, 0, random, 1e-6F);
  const Floats weight = random.normals(kModel);
  Rows y(rows, kModel, 0);
  for (auto _ : state) backend->add_rms_norm(residual.matrix(), h.matrix(), weight.data(), 1e-5F, y.matrix());
  report(state, 16.0 * rows * kModel, 5.0 * rows * kModel);
}

void gated_rms_norm(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0);
  const Rows x(rows, kInner, 0, random), z(rows, kInner, 1816, random);
  const Floats weight = random.normals(kInner);
  Rows y(rows, kInner, 0);
  for (auto _ : state) {
    backend->gated_rms_norm(x.matrix(), z.matrix(), weight.data(), 1e-5F, kInner, false, y.matrix());
  }
  report(state, 12.0 * rows * kInner, 20.0 * rows * kInner);
}

void silu_gate(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0);
  const Rows x(rows, kInner, 0, random), z(rows, kInner, kInner, random);
  Rows y(rows, kInner, 0);
  for (auto _ : state) backend->silu_gate(x.matrix(), z.matrix(), y.matrix());
  report(state, 12.0 * rows * kInner, 20.0 * rows * kInner);
}

void softplus(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0);
  const Rows x(rows, kInner, 0, random);
  const Floats bias = random.normals(kInner);
  Rows y(rows, kInner, 0);
  for (auto _ : state) backend->softplus(x.matrix(), bias.data(), 0, 1e30F, y.matrix());
  report(state, 8.0 * rows * kInner, 30.0 * rows * kInner);
}

void embed(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), vocabulary = 50280;
  const auto dtype = static_cast<DType>(state.range(1));
  const Tensor table = Tensor::zeros(dtype, {vocabulary, kModel});
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<TokenId>(random.uniform(0, 50279)));
  Rows y(rows, kModel, 0);
  for (auto _ : state) backend->embed(table, ids, y.matrix());
  state.SetLabel(std::string(name_of(dtype)));
  report(state, static_cast<double>(rows * kModel * (4 + size_of(dtype))), 0);
}

/// The channels of Mamba-1's convolution (1536) or Mamba-2's (1792), as columns of in_proj's output.
void causal_conv(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), channels = state.range(1);
  const Rows x(rows, channels, kInner, random), weight(4, channels, 0, random);
  const Floats bias = random.normals(channels);
  const Rows past(3, channels, 0, random);
  float* const states = past.matrix().data;
  const std::vector<std::int64_t> offsets{0, rows};
  Rows y(rows, channels, 0);
  for (auto _ : state) {
    backend->causal_conv(x.matrix(), weight.matrix(), bias.data(), offsets, {&states, 1}, y.matrix());
  }
  report(state, 8.0 * rows * channels, 28.0 * rows * channels);
}

/// What is asked of a scan's rows.
enum class Asked {
  outputs,     // every row's y
  states,      // the states alone
  some_heads,  // the states of every other head; the others' steps are zero
};

/// The rows of one sequence, for which `asked` is all that is wanted.
struct OneSequence {
  OneSequence(std::int64_t rows, Asked asked, float* state)
      : offsets{0, rows}, states(state), nothing(static_cast<std::size_t>(rows), 0), outputs(asked == Asked::outputs) {}
  ScanRows rows() const { return {offsets, {&states, 1}, nullptr, outputs ? nullptr : nothing.data()}; }

  std::vector<std::int64_t> offsets;
  float* states;
  std::vector<std::uint8_t> nothing;
  bool outputs;
};

/// Arguments: rows, channels, what is asked.
void selective_scan(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), inner = state.range(1), N = 16;
  const Rows x(rows, inner, 0, random), B(rows, N, 64, random), C(rows, N, 64, random);
  Rows dt(rows, inner, 0), A(N, inner, 0), y(rows, inner, 0);
  dt.fill([&] { return random.uniform(0.001F, 0.1F); });
  A.fill([&] { return -random.uniform(1, 16); });
  const Floats D = random.normals(inner);
  const Rows H(N, inner, 0, random);
  const OneSequence sequence(rows, static_cast<Asked>(state.range(2)), H.matrix().data);
  for (auto _ : state) {
    backend->selective_scan(x.matrix(), dt.matrix(), A.matrix(), B.matrix(), C.matrix(), D.data(), sequence.rows(),
                            y.matrix());
  }
  report(state, 12.0 * rows * inner + 8.0 * N * inner, 21.0 * rows * inner * N);
}

/// Arguments: rows, heads, what is asked. FLOPs are those of the recurrence, 5 a state and row (without the
/// exponentials), however it is computed and whatever of it is asked.
void ssd(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), heads = state.range(1), N = 128, width = heads * kHeadDim;
  const auto asked = static_cast<Asked>(state.range(2));
  const std::int64_t conv = width + 2 * N;  // x, B and C are columns of the convolution's output
  const Rows xBC(rows, conv, 0, random, 0.3F);
  Rows dt(rows, heads, 3328), y(rows, width, 0);
  dt.fill([&] { return random.uniform(0.001F, 0.1F); });
  if (asked == Asked::some_heads) {
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t h = 0; h < heads; h += 2) dt.matrix()(t, h) = 0;
    }
  }
  Floats A, D = random.normals(width);
  for (std::int64_t h = 0; h < heads; ++h) A.push_back(-random.uniform(1, 16));
  const Rows S(N, width, 0, random);
  const OneSequence sequence(rows, asked, S.matrix().data);
  const Matrix<const float> columns = xBC.matrix();
  for (auto _ : state) {
    backend->ssd(columns.col_range(0, width), dt.matrix(), A, columns.col_range(width, width + N),
                 columns.col_range(width + N, conv), 1, D, sequence.rows(), y.matrix());
  }
  report(state, 8.0 * rows * width + 8.0 * width * N, 5.0 * rows * width * N);
}

/// Arguments: rows, heads.
void ssd_contribution(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), heads = state.range(1), N = 128, width = heads * kHeadDim;
  const Rows x(rows, width, 2 * N, random), B(rows, N, width + N, random);
  Rows dt(rows, heads, 3328);
  dt.fill([&] { return random.uniform(0.001F, 0.1F); });
  const Floats A(static_cast<std::size_t>(heads), -2);
  const std::vector<std::int64_t> offsets{0, rows};
  Floats c(static_cast<std::size_t>(rows));
  for (auto _ : state) backend->ssd_contribution(x.matrix(), dt.matrix(), A, B.matrix(), 1, nullptr, offsets, c.data());
  report(state, 4.0 * rows * (width + N + heads), 2.0 * rows * width);
}

/// Arguments: rows, channels.
void selective_scan_contribution(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), inner = state.range(1), N = 16;
  const Rows x(rows, inner, 0, random), B(rows, N, 64, random);
  Rows dt(rows, inner, 0), A(N, inner, 0);
  dt.fill([&] { return random.uniform(0.001F, 0.1F); });
  A.fill([&] { return -random.uniform(1, 16); });
  const std::vector<std::int64_t> offsets{0, rows};
  Floats c(static_cast<std::size_t>(rows));
  for (auto _ : state) {
    backend->selective_scan_contribution(x.matrix(), dt.matrix(), A.matrix(), B.matrix(), nullptr, offsets, c.data());
  }
  report(state, 8.0 * rows * inner, 18.0 * rows * inner * N);
}

void importance(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const Rows y(rows, cols, 0, random);
  Floats scores(static_cast<std::size_t>(rows));
  for (auto _ : state) backend->importance(y.matrix(), Importance::clip, scores.data());
  report(state, 4.0 * rows * cols, 2.0 * rows * cols);
}

/// Arguments: rows, of which every other one is a source and the rest are targets; columns; whether only later ones
/// count. FLOPs are those of the product.
void best_match(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const bool later_only = state.range(2) != 0;
  const Rows x(rows, cols, 0, random);
  std::vector<std::int64_t> halves[2];
  for (std::int64_t i = 0; i < rows; ++i) halves[i % 2].push_back(i);
  std::vector<std::int64_t> match(halves[0].size());
  Floats similarity(match.size());
  for (auto _ : state) {
    backend->best_match(x.matrix(), halves[0], halves[1], later_only, match.data(), similarity.data());
  }
  report(state, 4.0 * rows * cols, 0.5 * rows * rows * cols * (later_only ? 0.5 : 1));
}

/// Every third row goes, in place.
void gather_rows(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const Rows x(rows, cols, 0, random);
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < rows; ++i) {
    if (i % 3 != 1) kept.push_back(i);
  }
  const Matrix<float> y = x.matrix().row_range(0, static_cast<std::int64_t>(kept.size()));
  for (auto _ : state) backend->gather_rows(x.matrix(), kept, y);
  report(state, 8.0 * y.rows * cols, 0);
}

/// Every third row merges into the one before.
void merge_rows(benchmark::State& state) {
  Random random(1);
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const Rows x(rows, cols, 0, random);
  std::vector<RowMerge> merges;
  for (std::int64_t i = 1; i < rows; i += 3) merges.push_back({i, i - 1});
  for (auto _ : state) backend->merge_rows(x.matrix(), merges, nullptr);
  report(state, 12.0 * static_cast<double>(merges.size()) * cols, 3.0 * static_cast<double>(merges.size()) * cols);
}

BENCHMARK(rms_norm)->Arg(512)->Arg(1)->UseRealTime();
BENCHMARK(add_rms_norm)->Arg(512)->Arg(1)->UseRealTime();
BENCHMARK(gated_rms_norm)->Arg(512)->Arg(1)->UseRealTime();
BENCHMARK(silu_gate)->Arg(512)->Arg(1)->UseRealTime();
BENCHMARK(softplus)->Arg(512)->Arg(1)->UseRealTime();
BENCHMARK(embed)
    ->Args({512, static_cast<int>(DType::f32)})
    ->Args({512, static_cast<int>(DType::f16)})
    ->Args({512, static_cast<int>(DType::bf16)})
    ->UseRealTime();
BENCHMARK(causal_conv)->Args({512, 1536})->Args({512, 1792})->Args({1, 1536})->Args({1, 1792})->UseRealTime();
// Widths of models: 49m, 130m, 2.7b.
BENCHMARK(selective_scan)->ArgsProduct({{2048, 512, 1}, {1024, 1536, 5120}, {0, 1}})->UseRealTime();
BENCHMARK(ssd)->ArgsProduct({{2048, 512, 64, 16, 8, 4, 1}, {24}, {0}})->UseRealTime();
BENCHMARK(ssd)->ArgsProduct({{2048}, {16, 24, 80}, {0, 1, 2}})->UseRealTime();
BENCHMARK(ssd_contribution)->ArgsProduct({{2048}, {16, 24, 80}})->UseRealTime();
BENCHMARK(selective_scan_contribution)->ArgsProduct({{2048}, {1024, 1536, 5120}})->UseRealTime();
BENCHMARK(importance)->ArgsProduct({{2048}, {1024, 5120}})->UseRealTime();
BENCHMARK(best_match)->ArgsProduct({{2048}, {1024, 5120}, {0, 1}})->UseRealTime();
BENCHMARK(gather_rows)->ArgsProduct({{2048}, {512, 2560}})->UseRealTime();
BENCHMARK(merge_rows)->ArgsProduct({{2048}, {512, 2560}})->UseRealTime();

/// The value of --`name`=... in `argument`, or nullptr.
const char* option(const char* argument, const std::string& name) {
  const std::string prefix = "--" + name + "=";
  return std::strncmp(argument, prefix.c_str(), prefix.size()) == 0 ? argument + prefix.size() : nullptr;
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  std::string backend = "cpu";
  std::vector<char*> rest;
  for (int i = 0; i < argc; ++i) {
    if (const char* name = molt::option(argv[i], "backend")) {
      backend = name;
    } else if (const char* isa = molt::option(argv[i], "isa")) {
      molt::use_isa(isa);
    } else if (const char* threads = molt::option(argv[i], "threads")) {
      molt::set_num_threads(std::atoi(threads));
    } else {
      rest.push_back(argv[i]);
    }
  }
  molt::backend = molt::make_backend(backend);
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
