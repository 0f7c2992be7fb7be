// Matrix products at the shapes of mamba-130m and mamba2-130m: GB/s of weights and GFLOP/s, beside the bandwidth at
// which this machine reads memory.
//
// Names are matmul/<format>/K:<in>/N:<out>/T:<rows>/threads:<n>/<instruction set>. Each product is repeated over as
// many copies of the weights as defeat the caches, as the layers of a model do. --isa=NAME,NAME..., first on the
// command line, chooses the instruction sets, which take turns; else the best is measured. One thread's rates are of
// its own time, so that other programs' turns do not count; those of several threads are of time that passed.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/select.h"
#include "tensor/quantized_matrix.h"
#include "tensor/tensor.h"

namespace molt {
namespace {

constexpr std::int64_t kBeyondCaches = 192 << 20;  // bytes

/// Of weights: floats, or quantized.
struct Format {
  DType dtype = DType::f32;
  std::optional<QuantizedFormat> quantized = std::nullopt;
  bool pairs = false;  // two weights of every four columns

  std::string name() const {
    if (pairs) return "bf16-2of4";
    if (!quantized) return std::string(name_of(dtype));
    return quantized->group == 0 ? fmt::format("int{}", quantized->bits)
                                 : fmt::format("int{}-g{}", quantized->bits, quantized->group);
  }
  bool operator==(const Format&) const = default;
};

struct Case {
  Format format;
  std::int64_t k, n, rows;
  int threads;
  std::string isa;
};

const CpuBackend kCpu;
const Backend& kBackend = kCpu;  // whose default arguments are wanted

/// Enough copies of a random [n, k] matrix to exceed the caches. The last set is kept for the next case.
const std::vector<std::unique_ptr<PackedMatrix>>& copies_of_weights(const Format& format, std::int64_t k,
                                                                    std::int64_t n) {
  static std::vector<std::unique_ptr<PackedMatrix>> copies;
  static Format kept;
  if (!copies.empty() && kept == format && copies.front()->in_features() == k && copies.front()->out_features() == n) {
    return copies;
  }
  copies.clear();
  kept = format;
  const Tensor weight = Tensor::zeros(DType::f32, {n, k});
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (std::int64_t i = 0; i < weight.size(); ++i) weight.as<float>()[i] = uniform(random);
  for (std::int64_t i = 0; format.pairs && i < weight.size(); ++i) {
    // Which two of a group go differs from row to row.
    const std::int64_t turn = i / k * 7 + i % k / 4;
    if ((i % 4 + turn) % 4 >= 2) weight.as<float>()[i] = 0;
  }
  const auto quantized = format.quantized ? std::optional(round_to_nearest(weight, *format.quantized)) : std::nullopt;
  std::int64_t bytes = 0;
  while (bytes < kBeyondCaches) {
    copies.push_back(quantized ? kBackend.pack(*quantized) : kBackend.pack(weight, format.dtype));
    bytes += copies.back()->bytes();
  }
  return copies;
}

void multiply(benchmark::State& state, const Case& c) {
  set_num_threads(c.threads);
  use_isa(c.isa);
  const auto& weights = copies_of_weights(c.format, c.k, c.n);
  std::vector<float> x(static_cast<std::size_t>(c.rows * c.k), 0.5F);
  std::vector<float> y(static_cast<std::size_t>(c.rows * c.n));
  std::size_t next = 0;
  for ([[maybe_unused]] auto _ : state) {
    kBackend.matmul({x.data(), c.rows, c.k}, *weights[next], nullptr, {y.data(), c.rows, c.n});
    next = (next + 1) % weights.size();
  }
  const auto calls = static_cast<double>(state.iterations());
  const auto bytes = static_cast<double>(weights.front()->bytes());
  const double flops = 2.0 * static_cast<double>(c.rows * c.k * c.n);
  state.counters["GB/s"] = benchmark::Counter(calls * bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(calls * flops / 1e9, benchmark::Counter::kIsRate);
}

/// The ceiling: reads memory that was laid out as weights are.
void read_memory(benchmark::State& state, int threads) {
  set_num_threads(threads);
  const auto& weights = copies_of_weights({DType::bf16}, 4096, 4096);
  constexpr std::int64_t kChunk = 1 << 16;
  std::int64_t bytes = 0;
  for ([[maybe_unused]] auto _ : state) {
    for (const auto& matrix : weights) {
      const std::byte* data = static_cast<const PackedPanels&>(*matrix).panel(0);
      parallel_for(matrix->bytes() / kChunk, 1, [&](std::int64_t begin, std::int64_t end) {
        typedef std::uint64_t Vector __attribute__((vector_size(16), may_alias));
        Vector a{}, b{}, c{}, d{};
        const auto* at = reinterpret_cast<const Vector*>(data + begin * kChunk);
        const auto* last = reinterpret_cast<const Vector*>(data + end * kChunk);
        for (; at != last; at += 4) {
          a |= at[0];
          b |= at[1];
          c |= at[2];
          d |= at[3];
        }
        Vector sums = a | b | c | d;
        benchmark::DoNotOptimize(sums);
      });
      bytes += matrix->bytes();
    }
  }
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(bytes) / 1e9, benchmark::Counter::kIsRate);
}

/// Measures one thread by its own time.
void measure_time(benchmark::internal::Benchmark* benchmark, int threads) {
  benchmark->Unit(benchmark::kMicrosecond);
  if (threads > 1) benchmark->UseRealTime();
}

void register_all(int most_threads, const std::vector<std::string>& isas) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> shapes = {{768, 3352},  {1536, 768}, {768, 3072},
                                                                     {768, 50280}, {1536, 80},  {48, 1536},
                                                                     {512, 2320},  {1024, 512}, {2560, 10576}};
  for (int threads = 1; threads <= most_threads; threads *= 2) {
    measure_time(benchmark::RegisterBenchmark(fmt::format("read/threads:{}", threads).c_str(),
                                              [threads](benchmark::State& state) { read_memory(state, threads); }),
                 threads);
  }
  const Format formats[] = {
      {DType::f32},           {DType::bf16},          {DType::u8, {{8, 0}}},  {DType::u8, {{4, 128}}},
      {DType::u8, {{4, 64}}}, {DType::u8, {{4, 32}}}, {DType::bf16, {}, true}};
  for (const Format& format : formats) {
    for (const auto& [k, n] : shapes) {
      for (int threads = 1; threads <= most_threads; threads *= 2) {
        for (const std::int64_t rows : {1, 2, 4, 8, 16, 64, 192, 512}) {
          for (const std::string& isa : isas) {
            const Case c{format, k, n, rows, threads, isa};
            const std::string name =
                fmt::format("matmul/{}/K:{}/N:{}/T:{}/threads:{}/{}", format.name(), k, n, rows, threads, isa);
            measure_time(
                benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State& state) { multiply(state, c); }),
                threads);
          }
        }
      }
    }
  }
}

/// The names between commas.
std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    names.emplace_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  std::vector<std::string> isas = {molt::select_kernels().name};
  if (argc > 1 && std::string_view(argv[1]).starts_with("--isa=")) {
    isas = molt::split(std::string_view(argv[1]).substr(6));
    for (const std::string& isa : isas) molt::use_isa(isa);  // or fail now
    --argc, ++argv;
  }
  molt::register_all(molt::num_threads(), isas);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
