// What kernels have in common: sums over warps and blocks, small functions, rows with a stride.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/context.h"
#include "tensor/tensor.h"

namespace molt::cuda {

/// Matrix<T> without its checks.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  Rows(const Matrix<T>& m) : data(m.data), stride(m.stride) {}  // NOLINT(google-explicit-constructor)
  __device__ T* row(std::int64_t t) const { return data + t * stride; }
};

constexpr unsigned kAllLanes = 0xffffffffU;

__device__ inline float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

__device__ inline double warp_sum(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// The sum over a block of whole warps, in every thread. `room` [32] is shared memory, free for use again afterwards.
template <class T>
__device__ T block_sum(T value, T* room) {
  value = warp_sum(value);
  const int warps = static_cast<int>(blockDim.x) / 32;
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (int w = 0; w < warps; ++w) sum += room[w];
  __syncthreads();
  return sum;
}

__device__ inline float silu(float v) {
  return v / (1.0F + __expf(-v));
}

inline unsigned blocks_for(std::int64_t items, int per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// Whether rows can be read four floats at a time.
template <class T>
bool in_fours(Matrix<T> m) {
  return reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0 && m.stride % 4 == 0 && m.cols % 4 == 0;
}

}  // namespace molt::cuda
