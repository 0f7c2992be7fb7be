// A block a row (of a group of channels): the squares are summed, then each thread scales what it summed.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;

/// kAdd: h is added to x (the residual), which keeps the sum.
template <bool kAdd>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(Rows<float> x, Rows<const float> h, const float* weight, float eps, int cols, Rows<float> y) {
  __shared__ float room[32];
  begin();
  float* const from = x.row(blockIdx.x);
  float* const to = y.row(blockIdx.x);
  float squares = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) {
    float v = from[i];
    if constexpr (kAdd) from[i] = v += h.row(blockIdx.x)[i];
    squares += v * v;
  }
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(cols) + eps);
  for (int i = threadIdx.x; i < cols; i += kThreads) {
    to[i] = from[i] * scale * (weight == nullptr ? 1.0F : weight[i]);
  }
}

__device__ inline float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

constexpr int kKept = 6;  // fours of columns that a thread keeps

/// Weights of the i-th four columns; ones for null.
__device__ inline float4 weights_of(const float* weight, int i) {
  return weight == nullptr ? float4{1, 1, 1, 1} : reinterpret_cast<const float4*>(weight)[i];
}

/// All of a thread's weights.
__device__ inline void fetch_weights(const float* weight, int cols, float4 (&weights)[kKept]) {
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = threadIdx.x + k * kThreads;
    if (4 * i < cols) weights[k] = weights_of(weight, i);
  }
}

/// Up to so many rows weights, which depend on nothing, are fetched before the kernel before this one has ended. With
/// many rows that hides nothing, and takes registers.
constexpr std::int64_t kMostEarlyRows = 64;

/// The same four columns at a time, kept in registers between the passes: cols <= 4 * kThreads * kKept.
template <bool kAdd, bool kEarly>
__global__ void __launch_bounds__(kThreads)
    norm_in_fours(Rows<float> x, Rows<const float> h, const float* weight, float eps, int cols, Rows<float> y) {
  __shared__ float room[32];
  let_next_start();
  float4 weights[kKept];
  if constexpr (kEarly) fetch_weights(weight, cols, weights);
  wait_for_previous();
  auto* const from = reinterpret_cast<float4*>(x.row(blockIdx.x));
  const auto* const added = reinterpret_cast<const float4*>(h.row(blockIdx.x));
  float4 kept[kKept];
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = threadIdx.x + k * kThreads;
    if (4 * i >= cols) break;
    kept[k] = from[i];
    if constexpr (kAdd) from[i] = kept[k] = kept[k] + added[i];
    squares += kept[k].x * kept[k].x + kept[k].y * kept[k].y + kept[k].z * kept[k].z + kept[k].w * kept[k].w;
  }
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(cols) + eps);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = threadIdx.x + k * kThreads;
    if (4 * i >= cols) break;
    const float4 w = kEarly ? weights[k] : weights_of(weight, i);
    reinterpret_cast<float4*>(y.row(blockIdx.x))[i] = {kept[k].x * scale * w.x, kept[k].y * scale * w.y,
                                                       kept[k].z * scale * w.z, kept[k].w * scale * w.w};
  }
}

template <bool kAdd>
void norm(Matrix<float> x, Matrix<const float> h, const float* weight, float eps, Matrix<float> y) {
  if (x.rows == 0 || x.cols == 0) return;
  const auto rows = static_cast<unsigned>(x.rows);
  const int cols = static_cast<int>(x.cols);
  const bool aligned = cuda::is_aligned(weight);
  const bool fours = in_fours(x) && in_fours(y) && (!kAdd || in_fours(h)) && aligned && cols <= 4 * kThreads * kKept;
  const bool early = x.rows <= kMostEarlyRows;
  const auto kernel = !fours ? norm_kernel<kAdd> : early ? norm_in_fours<kAdd, true> : norm_in_fours<kAdd, false>;
  launch_early(Context::get(), "rms_norm", kernel, rows, kThreads, 0, x, h, weight, eps, cols, y);
}

__global__ void __launch_bounds__(kThreads)
    gated_norm_kernel(Rows<const float> x, Rows<const float> z, const float* weight, float eps, int group, bool before,
                      Rows<float> y) {
  __shared__ float room[32];
  begin();
  const int first = static_cast<int>(blockIdx.y) * group;
  const float* const from = x.row(blockIdx.x) + first;
  const float* const gate = z.row(blockIdx.x) + first;
  float* const to = y.row(blockIdx.x) + first;
  float squares = 0;
  for (int i = threadIdx.x; i < group; i += kThreads) {
    const float v = before ? from[i] : from[i] * silu(gate[i]);
    squares += v * v;
  }
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(group) + eps);
  for (int i = threadIdx.x; i < group; i += kThreads) {
    to[i] = from[i] * silu(gate[i]) * scale * (weight == nullptr ? 1.0F : weight[first + i]);
  }
}

/// The same four columns at a time, kept in registers between the passes: group <= 4 * kThreads * kKept.
template <bool kEarly>
__global__ void __launch_bounds__(kThreads)
    gated_norm_in_fours(Rows<const float> x, Rows<const float> z, const float* weight, float eps, int group,
                        bool before, Rows<float> y) {
  __shared__ float room[32];
  let_next_start();
  const int first = static_cast<int>(blockIdx.y) * group;
  const float* const own_weight = weight == nullptr ? nullptr : weight + first;
  float4 weights[kKept];
  if constexpr (kEarly) fetch_weights(own_weight, group, weights);
  wait_for_previous();
  const auto* const from = reinterpret_cast<const float4*>(x.row(blockIdx.x) + first);
  const auto* const gate = reinterpret_cast<const float4*>(z.row(blockIdx.x) + first);
  float4 kept[kKept];
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = threadIdx.x + k * kThreads;
    if (4 * i >= group) break;
    const float4 v = from[i], g = gate[i];
    kept[k] = {v.x * silu(g.x), v.y * silu(g.y), v.z * silu(g.z), v.w * silu(g.w)};
    const float4 normed = before ? v : kept[k];
    squares += normed.x * normed.x + normed.y * normed.y + normed.z * normed.z + normed.w * normed.w;
  }
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(group) + eps);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = threadIdx.x + k * kThreads;
    if (4 * i >= group) break;
    const float4 w = kEarly ? weights[k] : weights_of(own_weight, i);
    reinterpret_cast<float4*>(y.row(blockIdx.x) + first)[i] = {kept[k].x * scale * w.x, kept[k].y * scale * w.y,
                                                               kept[k].z * scale * w.z, kept[k].w * scale * w.w};
  }
}

}  // namespace
}  // namespace cuda

void CudaBackend::rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const {
  shapes::check_same(x, y);
  // Without an addition nothing is written to x.
  cuda::norm<false>({const_cast<float*>(x.data), x.rows, x.cols, x.stride}, x, weight, eps, y);
}

void CudaBackend::add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                               Matrix<float> y) const {
  shapes::check_same(residual, h);
  shapes::check_same(residual, y);
  cuda::norm<true>(residual, h, weight, eps, y);
}

void CudaBackend::gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                                 std::int64_t group, bool norm_before_gate, Matrix<float> y) const {
  shapes::check_gated_rms_norm(x, z, group, y);
  if (x.rows == 0 || x.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(x.rows), static_cast<unsigned>(x.cols / group));
  const bool fours = cuda::in_fours(x) && cuda::in_fours(z) && cuda::in_fours(y) && group % 4 == 0 &&
                     cuda::is_aligned(weight) && group <= 4 * cuda::kThreads * cuda::kKept;
  const bool early = x.rows <= cuda::kMostEarlyRows;
  const auto kernel = !fours  ? cuda::gated_norm_kernel
                      : early ? cuda::gated_norm_in_fours<true>
                              : cuda::gated_norm_in_fours<false>;
  cuda::launch_early(cuda::Context::get(), "gated_rms_norm", kernel, grid, cuda::kThreads, 0, x, z, weight, eps,
                     static_cast<int>(group), norm_before_gate, y);
}

}  // namespace molt
