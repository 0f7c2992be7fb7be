#include "ceilings.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "base/parallel.h"

namespace molt::cli {
namespace {

double seconds(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Sums `n` words in several chains, so that the loop waits for memory and for nothing else.
std::uint64_t sum_words(const std::uint64_t* words, std::int64_t n) {
  constexpr int kChains = 32;
  std::uint64_t chains[kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains <= n; i += kChains) {
    for (int c = 0; c < kChains; ++c) chains[c] += words[i + c];
  }
  for (; i < n; ++i) chains[0] += words[i];
  return std::accumulate(std::begin(chains), std::end(chains), std::uint64_t{0});
}

double read_bandwidth() {
  constexpr std::int64_t kWords = 1 << 25;  // 256 MB: far more than any cache
  constexpr std::int64_t kChunk = 1 << 17;
  const Tensor buffer = Tensor::zeros(DType::i64, {kWords});
  const auto* words = reinterpret_cast<const std::uint64_t*>(buffer.data());
  volatile std::uint64_t sink = 0;
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    best = std::min(best, seconds([&] {
                      parallel_for(kWords, kChunk, [&](std::int64_t begin, std::int64_t end) {
                        sink = sum_words(words + begin, end - begin);
                      });
                    }));
  }
  return static_cast<double>(kWords) * 8 / best / 1e9;
}

/// With weights in `dtype`, u8 for int8.
double matmul_rate(const Backend& backend, DType dtype) {
  constexpr std::int64_t kSize = 1024;
  Tensor weight = Tensor::zeros(DType::f32, {kSize, kSize});
  Tensor x = Tensor::zeros(DType::f32, {kSize, kSize});
  const Tensor y = Tensor::zeros(DType::f32, {kSize, kSize});
  std::fill_n(weight.as<float>(), weight.size(), 0.01F);
  std::fill_n(x.as<float>(), x.size(), 1.0F);
  const auto packed = dtype == DType::u8 ? backend.pack(round_to_nearest(weight, {})) : backend.pack(weight, dtype);
  double best = 1e30;
  for (int round = 0; round < 8; ++round) {
    best = std::min(best, seconds([&] { backend.matmul(x.matrix(), *packed, nullptr, y.matrix()); }));
  }
  return 2.0 * kSize * kSize * kSize / best / 1e9;
}

}  // namespace

Ceilings measure_ceilings(const ModelCore& model) {
  const double f32 = matmul_rate(model.backend(), DType::f32);
  const DType dtype = model.quantized() ? DType::u8 : model.dtype();
  return {read_bandwidth(), dtype == DType::f32 ? f32 : matmul_rate(model.backend(), dtype), f32};
}

}  // namespace molt::cli
