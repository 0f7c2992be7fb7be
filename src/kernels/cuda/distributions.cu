// What logits say of the next token: a block a row, summed in double precision.
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 512;

__global__ void __launch_bounds__(kThreads) log_sum_exp_kernel(Rows<const float> x, int cols, double* sums) {
  __shared__ float largest[32];
  __shared__ double room[32];
  const float* const row = x.row(blockIdx.x);
  float most = -INFINITY;
  for (int i = threadIdx.x; i < cols; i += kThreads) most = fmaxf(most, row[i]);  // passes over NaN
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, step));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = most;
  __syncthreads();
  for (int w = 0; w < kThreads / 32; ++w) most = fmaxf(most, largest[w]);
  double sum = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) sum += static_cast<double>(expf(row[i] - most));
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) sums[blockIdx.x] = static_cast<double>(most) + log(sum);
}

__global__ void __launch_bounds__(kThreads)
    divergence_kernel(Rows<const float> p, Rows<const float> q, int cols, double* sums) {
  __shared__ double room[32];
  const float* const a = p.row(blockIdx.x);
  const float* const b = q.row(blockIdx.x);
  double sum = 0;
  for (int i = threadIdx.x; i < cols; i += kThreads) {
    sum += static_cast<double>(expf(a[i])) * (static_cast<double>(a[i]) - static_cast<double>(b[i]));
  }
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

}  // namespace
}  // namespace cuda

void CudaBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  if (x.rows == 0) return;
  cuda::Context& context = cuda::Context::get();
  auto* const there = reinterpret_cast<double*>(context.scratch(x.rows * 8));
  cuda::log_sum_exp_kernel<<<static_cast<unsigned>(x.rows), cuda::kThreads, 0, context.stream()>>>(
      x, static_cast<int>(x.cols), there);
  cuda::check_launch("log_sum_exp");
  context.bring(there, sums, x.rows * 8);
}

void CudaBackend::divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const {
  shapes::check_divergence(p, q);
  if (p.rows == 0) return;
  cuda::Context& context = cuda::Context::get();
  auto* const there = reinterpret_cast<double*>(context.scratch(p.rows * 8));
  cuda::divergence_kernel<<<static_cast<unsigned>(p.rows), cuda::kThreads, 0, context.stream()>>>(
      p, q, static_cast<int>(p.cols), there);
  cuda::check_launch("divergence");
  context.bring(there, sums, p.rows * 8);
}

}  // namespace molt
