#include "kernels/cuda/coded_product.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/packed_matrix.h"
#include "kernels/shapes.h"

#include <cuda_fp16.h>

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;

__device__ float widened(float v) {
  return v;
}
__device__ float widened(__half v) {
  return __half2float(v);
}
__device__ float widened(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const T* table, std::int64_t table_stride, const TokenId* ids, Rows<float> y, int cols) {
  const T* const from = table + ids[blockIdx.x] * table_stride;
  for (int i = threadIdx.x; i < cols; i += kThreads) y.row(blockIdx.x)[i] = widened(from[i]);
}

void embed(const void* table, DType dtype, std::int64_t stride, std::span<const TokenId> ids, Matrix<float> y) {
  if (y.rows == 0 || y.cols == 0) return;
  Context& context = Context::get();
  const TokenId* const numbers = context.hand_over(ids.data(), std::ssize(ids));
  const auto launch = [&](auto* typed) {
    embed_kernel<<<static_cast<unsigned>(y.rows), kThreads, 0, context.stream()>>>(typed, stride, numbers, y,
                                                                                   static_cast<int>(y.cols));
  };
  if (dtype == DType::f32) {
    launch(static_cast<const float*>(table));
  } else if (dtype == DType::f16) {
    launch(static_cast<const __half*>(table));
  } else {
    launch(static_cast<const __nv_bfloat16*>(table));
  }
  check_launch("embed");
}

}  // namespace
}  // namespace cuda

void CudaBackend::embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  if (reinterpret_cast<std::uintptr_t>(table.data()) % static_cast<std::uintptr_t>(size_of(table.dtype())) != 0) {
    return StagedBackend::embed(table, ids, y);
  }
  cuda::embed(table.data(), table.dtype(), table.shape()[1], ids, y);
}

void CudaBackend::embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  if (const auto* const coded = cuda::CodedRows::of(table)) {
    if (y.rows == 0 || y.cols == 0) return;
    cuda::Context& context = cuda::Context::get();
    return cuda::coded_embed(context, *coded, context.hand_over(ids.data(), std::ssize(ids)), y);
  }
  const auto& rows = cuda::PackedRows::of(table);
  cuda::embed(rows.row(0), rows.stored(), rows.stride(), ids, y);
}

}  // namespace molt
