#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsABlock = 4;

/// Calls body(t, i) on all elements of rows x cols: blocks of kThreads columns and kRowsABlock rows.
template <class Body>
__global__ void __launch_bounds__(kThreads) elements_kernel(std::int64_t rows, std::int64_t cols, Body body) {
  begin();
  const std::int64_t i = blockIdx.y * std::int64_t{kThreads} + threadIdx.x;
  if (i >= cols) return;
  const std::int64_t first = blockIdx.x * std::int64_t{kRowsABlock};
#pragma unroll
  for (int r = 0; r < kRowsABlock; ++r) {
    if (first + r < rows) body(first + r, i);
  }
}

template <class Body>
void for_elements(std::int64_t rows, std::int64_t cols, const char* name, Body body) {
  if (rows == 0 || cols == 0) return;
  const dim3 grid(blocks_for(rows, kRowsABlock), blocks_for(cols, kThreads));
  launch_early(Context::get(), name, elements_kernel<Body>, grid, kThreads, 0, rows, cols, body);
}

struct SiluGate {
  Rows<const float> x, z;
  Rows<float> y;
  __device__ void operator()(std::int64_t t, std::int64_t i) const { y.row(t)[i] = x.row(t)[i] * silu(z.row(t)[i]); }
};

struct Softplus {
  Rows<const float> x;
  const float* bias;
  float low, high;
  Rows<float> y;
  __device__ void operator()(std::int64_t t, std::int64_t i) const {
    const float v = softplus_of(x.row(t)[i] + (bias == nullptr ? 0.0F : bias[i]));
    y.row(t)[i] = fminf(high, fmaxf(low, v));
  }
};

struct Add {
  Rows<const float> x, h;
  Rows<float> y;
  __device__ void operator()(std::int64_t t, std::int64_t i) const { y.row(t)[i] = x.row(t)[i] + h.row(t)[i]; }
};

}  // namespace
}  // namespace cuda

void CudaBackend::silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const {
  shapes::check_same(x, z);
  shapes::check_same(x, y);
  cuda::for_elements(x.rows, x.cols, "silu_gate", cuda::SiluGate{x, z, y});
}

void CudaBackend::softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const {
  shapes::check_same(x, y);
  cuda::for_elements(x.rows, x.cols, "softplus", cuda::Softplus{x, bias, low, high, y});
}

void CudaBackend::add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const {
  shapes::check_same(x, h);
  shapes::check_same(x, y);
  cuda::for_elements(x.rows, x.cols, "add_rows", cuda::Add{x, h, y});
}

}  // namespace molt
