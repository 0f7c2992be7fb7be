#include "ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "base/parallel.h"
#include "kernels/cpu/weight_memory.h"

namespace molt::cli {
namespace {

double seconds(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Sums `n` words, a whole number of cache lines, in several chains and looking ahead, so that the loop waits for memory
/// and for nothing else.
std::uint64_t sum_words(const std::uint64_t* words, std::int64_t n) {
  constexpr int kChains = 8;  // a cache line
  constexpr std::int64_t kWordsAhead = 384;
  std::uint64_t chains[kChains] = {};
  for (std::int64_t i = 0; i < n; i += kChains) {
    __builtin_prefetch(words + i + kWordsAhead);
    for (int c = 0; c < kChains; ++c) chains[c] += words[i + c];
  }
  return std::accumulate(std::begin(chains), std::end(chains), std::uint64_t{0});
}

double read_bandwidth() {
  constexpr std::int64_t kWords = 1 << 25;  // 256 MB: far more than any cache
  constexpr std::int64_t kChunk = 1 << 17;
  const auto buffer = allocate_weights(kWords * 8);  // on the pages that weights lie on
  std::memset(buffer.get(), 0, kWords * 8);
  const auto* words = reinterpret_cast<const std::uint64_t*>(buffer.get());
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

/// Of a device's memory: what a copy reads and writes.
double copy_bandwidth(const Backend& backend) {
  constexpr std::int64_t kBytes = std::int64_t{1} << 30;
  const Tensor from = backend.memory().zeros(DType::u8, {kBytes});
  const Tensor to = backend.memory().zeros(DType::u8, {kBytes});
  double best = 1e30;
  for (int round = 0; round < 8; ++round) {
    best = std::min(best, seconds([&] {
                      backend.memory().copy(from.data(), to.data(), kBytes);
                      backend.finish();
                    }));
  }
  return 2.0 * kBytes / best / 1e9;
}

/// With weights in `dtype`, u8 for int8.
double matmul_rate(const Backend& backend, DType dtype) {
  const std::int64_t size = backend.memory().is_host() ? 1024 : 4096;
  Tensor weight = Tensor::zeros(DType::f32, {size, size});
  Tensor ones = Tensor::zeros(DType::f32, {size, size});
  std::fill_n(weight.as<float>(), weight.size(), 0.01F);
  std::fill_n(ones.as<float>(), ones.size(), 1.0F);
  const Tensor x = backend.memory().place(ones);
  const Tensor y = backend.memory().zeros(DType::f32, {size, size});
  const auto packed = dtype == DType::u8 ? backend.pack(round_to_nearest(weight, {})) : backend.pack(weight, dtype);
  double best = 1e30;
  for (int round = 0; round < 8; ++round) {
    best = std::min(best, seconds([&] {
                      backend.matmul(x.matrix(), *packed, nullptr, y.matrix());
                      backend.finish();
                    }));
  }
  return 2.0 * static_cast<double>(size * size * size) / best / 1e9;
}

}  // namespace

Ceilings measure_ceilings(const ModelCore& model) {
  const double f32 = matmul_rate(model.backend(), DType::f32);
  const DType dtype = model.quantized() ? DType::u8 : model.dtype();
  const bool host = model.backend().memory().is_host();
  return {host ? read_bandwidth() : copy_bandwidth(model.backend()),
          dtype == DType::f32 ? f32 : matmul_rate(model.backend(), dtype), f32};
}

}  // namespace molt::cli
