// What kernels have in common: sums over warps and blocks, small functions, rows with a stride.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "kernels/cuda/context.h"
#include "tensor/tensor.h"

namespace molt::cuda {

/// Matrix<T> without its checks.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  Rows(const Matrix<T>& m) : data(m.data), stride(m.stride) {}  // NOLINT(google-explicit-constructor)
  Rows(T* rows, std::int64_t step) : data(rows), stride(step) {}
  __device__ T* row(std::int64_t t) const { return data + t * stride; }
};

// Where kernels are short, one is started while the one before it still runs, and waits for that one's end itself: its
// start is hidden, and what does not depend on the other, weights above all, is on its way (programmatic dependent
// launch, on compute capability 9.0). Each kernel that is launched so calls begin() in all of its threads, before it
// reads or writes what others write or read. Launched otherwise, or on older devices, all of this does nothing.

/// Lets the next kernel start; it will wait.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// Waits for the kernel before.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void begin() {
  let_next_start();
  wait_for_previous();
}

/// Launches a kernel that calls begin().
template <class... Parameters, class... Arguments>
void launch_early(const Context& context, const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
                  std::size_t shared, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = context.stream();
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = context.starts_early() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...), name);
}

/// For kernels of a step: the multiprocessors' memory is split as products want it, so that blocks of both have room at
/// the same time.
template <class... Parameters>
void stand_beside_products(void (*kernel)(Parameters...)) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
        "the split of shared memory");
}

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

/// 2^v to two units of the last place; 0 below the normal numbers. One instruction, where exp2f is several.
__device__ inline float power_of_2(float v) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}

/// In five instructions: __expf and __fdividef look after numbers that do not count here.
__device__ inline float silu(float v) {
  constexpr float kLog2e = 1.4426950408889634F;
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(1.0F + power_of_2(-kLog2e * v)));
  return v * reciprocal;
}

/// log(1 + exp(v)), exact to rounding at both ends.
__device__ inline float softplus_of(float v) {
  return v > 20.0F ? v : log1pf(expf(v));
}

/// Has the blocks of a grid bring memory into the cache that all multiprocessors share, each a part; on compute
/// capability 9.0. Both are multiples of 16 bytes.
__device__ inline void fetch_ahead(const void* from, std::int64_t bytes, unsigned block, unsigned blocks) {
#if __CUDA_ARCH__ >= 900
  constexpr std::int64_t kPiece = 1 << 14;
  if (threadIdx.x != 0) return;
  for (std::int64_t begin = block * kPiece; begin < bytes; begin += blocks * kPiece) {
    const auto size = static_cast<unsigned>(bytes - begin < kPiece ? bytes - begin : kPiece);
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(static_cast<const char*>(from) + begin), "r"(size));
  }
#endif
}

inline unsigned blocks_for(std::int64_t items, int per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// Whether 16 bytes can be read at once there.
__host__ __device__ inline bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

/// Whether rows can be read four floats at a time.
template <class T>
bool in_fours(Matrix<T> m) {
  return is_aligned(m.data) && m.stride % 4 == 0 && m.cols % 4 == 0;
}

}  // namespace molt::cuda
