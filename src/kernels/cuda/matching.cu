// Which rows matter, and which are alike. Similarities are a matrix product of rows scaled to length 1, in float32,
// some sources at a time.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/products.h"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostSimilarities = std::int64_t{16} << 20;  // at a time

__device__ float weigh(Importance metric, float v) {
  switch (metric) {
    case Importance::clip: return v < 0 ? 0 : v;
    case Importance::l1: return fabsf(v);
    case Importance::l2: return v * v;
    case Importance::signed_mean: break;
  }
  return v;
}

__global__ void __launch_bounds__(kThreads)
    importance_kernel(Rows<const float> y, int cols, Importance metric, float* scores) {
  __shared__ float room[32];
  float sum = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) sum += weigh(metric, y.row(blockIdx.x)[i]);
  const float mean = block_sum(sum, room) / static_cast<float>(cols);
  if (threadIdx.x == 0) scores[blockIdx.x] = metric == Importance::l2 ? sqrtf(mean) : mean;
}

/// to[i] = x[rows[i]] scaled to length 1, padded with zeros to `to_cols`.
__global__ void __launch_bounds__(kThreads)
    unit_kernel(Rows<const float> x, int cols, const std::int64_t* rows, float* to, int to_cols) {
  __shared__ float room[32];
  const float* const from = x.row(rows[blockIdx.x]);
  float squares = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) squares += from[i] * from[i];
  const float length = sqrtf(block_sum(squares, room));
  const float scale = 1.0F / (length < 1e-12F ? 1e-12F : length);  // a NaN stays one
  float* const unit = to + blockIdx.x * static_cast<std::int64_t>(to_cols);
  for (int i = threadIdx.x; i < to_cols; i += kThreads) unit[i] = i < cols ? from[i] * scale : 0.0F;
}

struct Found {
  float similarity;
  int target;  // its place among the targets; -1: none yet

  /// Whether `this` is to be taken before `other`: the greater, of equals the first.
  __device__ bool before(const Found& other) const {
    if (target < 0) return false;
    if (other.target < 0) return true;
    return similarity > other.similarity || (similarity == other.similarity && target < other.target);
  }
};

/// The best of a row of similarities.
__global__ void __launch_bounds__(kThreads)
    best_kernel(const float* similarities, int targets, const std::int64_t* source_rows,
                const std::int64_t* target_rows, bool later_only, std::int64_t* match, float* similarity) {
  __shared__ Found room[kThreads / 32];
  const float* const row = similarities + blockIdx.x * static_cast<std::int64_t>(targets);
  Found best{-INFINITY, -1};
  for (int j = threadIdx.x; j < targets; j += kThreads) {
    if (later_only && target_rows[j] <= source_rows[blockIdx.x]) continue;
    const Found found{isnan(row[j]) ? -INFINITY : row[j], j};
    if (found.before(best)) best = found;
  }
  for (int step = 16; step > 0; step /= 2) {
    const Found other{__shfl_xor_sync(kAllLanes, best.similarity, step), __shfl_xor_sync(kAllLanes, best.target, step)};
    if (other.before(best)) best = other;
  }
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (const Found& other : room) {
    if (other.before(best)) best = other;
  }
  match[blockIdx.x] = best.target < 0 ? -1 : target_rows[best.target];
  similarity[blockIdx.x] = best.similarity;
}

}  // namespace
}  // namespace cuda

void CudaBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  if (y.rows == 0) return;
  cuda::Context& context = cuda::Context::get();
  auto* const there = reinterpret_cast<float*>(context.scratch(y.rows * 4));
  cuda::importance_kernel<<<static_cast<unsigned>(y.rows), cuda::kThreads, 0, context.stream()>>>(
      y, static_cast<int>(y.cols), metric, there);
  cuda::check_launch("importance");
  context.bring(there, scores, y.rows * 4);
}

void CudaBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                             std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                             float* similarity) const {
  shapes::check_best_match(x, sources, targets);
  const auto S = std::ssize(sources), T = std::ssize(targets);
  if (S == 0) return;
  if (T == 0) {
    std::fill_n(match, S, -1);
    std::fill_n(similarity, S, -std::numeric_limits<float>::infinity());
    return;
  }
  cuda::Context& context = cuda::Context::get();
  const cudaStream_t stream = context.stream();
  const std::int64_t width = (x.cols + 3) / 4 * 4;
  const std::int64_t at_once = std::clamp<std::int64_t>(cuda::kMostSimilarities / T, 1, S);
  const auto aligned = [](std::int64_t floats) { return (floats + 63) / 64 * 64; };
  auto* room = reinterpret_cast<float*>(
      context.scratch(4 * (aligned(S * width) + aligned(T * width) + aligned(at_once * T) + aligned(S)) + 8 * S));
  float* const source_units = room;
  float* const target_units = room += aligned(S * width);
  float* const similarities = room += aligned(T * width);
  float* const best_similarity = room += aligned(at_once * T);
  auto* const best = reinterpret_cast<std::int64_t*>(room + aligned(S));
  const std::int64_t* const source_rows = context.hand_over(sources.data(), S);
  const std::int64_t* const target_rows = context.hand_over(targets.data(), T);
  const auto units = [&](std::int64_t count, const std::int64_t* rows, float* to) {
    cuda::unit_kernel<<<static_cast<unsigned>(count), cuda::kThreads, 0, stream>>>(x, static_cast<int>(x.cols), rows,
                                                                                   to, static_cast<int>(width));
  };
  units(S, source_rows, source_units);
  units(T, target_rows, target_units);
  for (std::int64_t first = 0; first < S; first += at_once) {
    const std::int64_t some = std::min(at_once, S - first);
    cuda::product_f32(source_units + first * width, some, target_units, T, width, similarities);
    cuda::best_kernel<<<static_cast<unsigned>(some), cuda::kThreads, 0, stream>>>(
        similarities, static_cast<int>(T), source_rows + first, target_rows, later_only, best + first,
        best_similarity + first);
  }
  cuda::check_launch("best_match");
  context.bring(best, match, S * 8);
  context.bring(best_similarity, similarity, S * 4);
}

}  // namespace molt
