// Matrix products. A few rows, as in decoding, have kernels of their own (matmul_few.cu, matmul_tiles.cu; with coded
// weights coded_product.cu). More rows go to cuBLASLt, in float32 proper (no TF32) or with inputs rounded to bfloat16,
// and always summed in float32; coded weights are widened for them.
#include <algorithm>

#include "kernels/cuda/coded_product.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/matmul_few.h"
#include "kernels/cuda/matmul_stream.h"
#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/scratch.h"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 256;

/// Rows of x as `T`, padded with zeros to `to_cols`.
template <class T>
__global__ void __launch_bounds__(kThreads) convert_kernel(Rows<const float> x, int cols, T* to, int to_cols) {
  const float* const from = x.row(blockIdx.x);
  T* const row = to + blockIdx.x * static_cast<std::int64_t>(to_cols);
  for (int i = threadIdx.x; i < to_cols; i += kThreads) row[i] = static_cast<T>(i < cols ? from[i] : 0.0F);
}

/// The same four at a time, no padding.
__global__ void __launch_bounds__(kThreads)
    round_in_fours(Rows<const float> x, std::int64_t fours_a_row, std::int64_t fours, __nv_bfloat16* to) {
  const std::int64_t i = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (i >= fours) return;
  const std::int64_t t = i / fours_a_row, c = i - t * fours_a_row;
  const float4 v = reinterpret_cast<const float4*>(x.row(t))[c];
  const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
  reinterpret_cast<uint2*>(to)[i] = *reinterpret_cast<const uint2*>(pair);
}

/// x as the product takes it, in scratch memory.
void prepare(Matrix<const float> x, DType dtype, std::int64_t cols, std::byte* to) {
  const cudaStream_t stream = Context::get().stream();
  const auto rows = static_cast<unsigned>(x.rows);
  if (dtype == DType::f32) {
    convert_kernel<<<rows, kThreads, 0, stream>>>(Rows<const float>(x), static_cast<int>(x.cols),
                                                  reinterpret_cast<float*>(to), static_cast<int>(cols));
  } else if (in_fours(x) && cols == x.cols) {
    const std::int64_t fours = x.rows * (x.cols / 4);
    round_in_fours<<<blocks_for(fours, kThreads), kThreads, 0, stream>>>(x, x.cols / 4, fours,
                                                                         reinterpret_cast<__nv_bfloat16*>(to));
  } else {
    convert_kernel<<<rows, kThreads, 0, stream>>>(Rows<const float>(x), static_cast<int>(x.cols),
                                                  reinterpret_cast<__nv_bfloat16*>(to), static_cast<int>(cols));
  }
  check_launch("rounding the input of a product");
}

__global__ void __launch_bounds__(kThreads) bias_kernel(Rows<float> y, const float* bias, int cols) {
  for (int i = threadIdx.x; i < cols; i += kThreads) y.row(blockIdx.x)[i] += bias[i];
}

cublasLtMatrixLayout_t layout(cudaDataType type, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                              std::int64_t count) {
  cublasLtMatrixLayout_t result = nullptr;
  check(cublasLtMatrixLayoutCreate(&result, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols),
                                   stride),
        "describing a matrix");
  if (count == 1) return result;
  const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, auto value) {
    check(cublasLtMatrixLayoutSetAttribute(result, attribute, &value, sizeof(value)), "describing matrices");
  };
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(count));
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, std::int64_t{cols * stride});
  return result;
}

/// cuBLASLt counts columns first: y' [N, T] = (W' [K, N])' x' [K, T].
MatmulPlan make_plan(Context& context, const MatmulKey& key, std::int64_t w_stride) {
  MatmulPlan plan;
  const cudaDataType type = key.narrow != 0 ? CUDA_R_16BF : CUDA_R_32F;
  check(cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  const cublasOperation_t turned = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof(turned)),
        "describing a product");
  plan.w = layout(type, key.in, key.out, w_stride, key.count);
  plan.x = layout(type, key.in, key.rows, key.x_stride, key.count);
  plan.y = layout(key.narrow_y != 0 ? CUDA_R_16BF : CUDA_R_32F, key.out, key.rows, key.y_stride, key.count);
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), "choosing an algorithm");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Context::kBlasBytes});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t{16});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, std::uint32_t{16});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.y_alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.y_alignment));
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(context.blas(), plan.operation, plan.w, plan.x, plan.y,
                                                               plan.y, preference, 1, &found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  check(status, "choosing an algorithm");
  MOLT_CHECK(count == 1);
  plan.algorithm = found.algo;
  return plan;
}

std::int64_t alignment_of(const void* data, std::int64_t stride_bytes) {
  std::int64_t alignment = 16;
  while (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(alignment) != 0 ||
         stride_bytes % alignment != 0) {
    alignment /= 2;
  }
  return alignment;
}

/// y = x * w^T (+ y) as `key` describes them.
void multiply(Context& context, const void* x, const void* w, std::int64_t w_stride, const MatmulKey& key, void* y,
              bool adds = false) {
  auto plan = context.matmul_plans().find(key);
  if (plan == context.matmul_plans().end()) {
    plan = context.matmul_plans().emplace(key, make_plan(context, key, w_stride)).first;
  }
  const float one = 1, own = adds ? 1 : 0;
  const MatmulPlan& p = plan->second;
  check(cublasLtMatmul(context.blas(), p.operation, &one, w, p.w, x, p.x, &own, y, p.y, y, p.y, &p.algorithm,
                       context.blas_memory(), Context::kBlasBytes, context.stream()),
        "matmul");
}

/// What outputs of weights are multiplied as: rows of `stride` elements, in f32 or bf16.
DType multiplied_in(const PackedMatrix& w) {
  return CodedRows::of(w) != nullptr ? DType::bf16 : PackedRows::of(w).stored();
}
std::int64_t multiplied_stride(const PackedMatrix& w) {
  return padded_inputs(w.in_features(), multiplied_in(w));
}

/// body(weights, from, count) for the outputs [first, first + count) of w, all at once; of coded weights strip by
/// strip, widened behind `reserved` bytes of scratch memory, whose begin is given to `prepare`.
template <class Prepare, class Body>
void for_strips(const PackedMatrix& w, std::int64_t first, std::int64_t count, std::int64_t reserved, Prepare prepare,
                Body body) {
  Context& context = Context::get();
  const CodedRows* const coded = CodedRows::of(w);
  if (coded == nullptr) {
    if (reserved > 0) prepare(context.scratch(reserved));
    return body(PackedRows::of(w).row(first), std::int64_t{0}, count);
  }
  const std::int64_t stride = multiplied_stride(w), most = widened_outputs(w.in_features());
  std::byte* const room = context.scratch(aligned_scratch(reserved) + widened_scratch(count, w.in_features()));
  if (reserved > 0) prepare(room);
  auto* const widened = reinterpret_cast<__nv_bfloat16*>(room + aligned_scratch(reserved));
  for (std::int64_t from = 0; from < count; from += most) {
    const std::int64_t strip = std::min(most, count - from);
    widen(context, *coded, first + from, strip, widened, stride);
    body(reinterpret_cast<const std::byte*>(widened), from, strip);
  }
}

void many_rows(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y, std::int64_t first) {
  const DType stored = multiplied_in(w);
  const std::int64_t stride = multiplied_stride(w);
  const bool narrow = stored == DType::bf16;
  const void* input = x.data;
  std::int64_t x_stride = x.stride;
  const std::int64_t reserved = narrow || !in_fours(x) ? product_scratch(x.rows, stride, stored) : 0;
  const auto prepare_x = [&](std::byte* room) {
    prepare(x, stored, stride, room);
    input = room;
    x_stride = stride;
  };
  for_strips(w, first, y.cols, reserved, prepare_x,
             [&](const std::byte* weights, std::int64_t from, std::int64_t count) {
               // Inputs are padded with zeros: all of them are summed.
               float* const to = y.data + from;
               const MatmulKey key{x.rows,   count,          stride, x_stride,
                                   y.stride, narrow ? 1 : 0, 0,      alignment_of(to, y.stride * 4)};
               multiply(Context::get(), input, weights, stride, key, to);
             });
  if (bias != nullptr) {
    bias_kernel<<<static_cast<unsigned>(y.rows), kThreads, 0, Context::get().stream()>>>(y, bias + first,
                                                                                         static_cast<int>(y.cols));
    check_launch("bias");
  }
}

}  // namespace

void products(Context& context, const PlainProducts& p, const void* x, const void* w, float* y) {
  MOLT_CHECK(p.dtype == DType::f32 || p.dtype == DType::bf16);
  const std::int64_t narrow = p.dtype == DType::bf16 ? 1 : 0;
  multiply(context, x, w, p.in, {p.rows, p.out, p.in, p.in, p.out, narrow, 0, alignment_of(y, p.out * 4), p.count}, y);
}

void product_narrow(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                    std::int64_t out, Rows<__nv_bfloat16> y) {
  const auto nothing = [](std::byte*) {};
  for_strips(w, first, out, 0, nothing, [&](const std::byte* weights, std::int64_t from, std::int64_t count) {
    __nv_bfloat16* const to = y.data + from;
    const std::int64_t stride = multiplied_stride(w);
    const MatmulKey key{rows, count, stride, x.stride, y.stride, 1, 1, alignment_of(to, y.stride * 2)};
    multiply(Context::get(), x.data, weights, stride, key, to);
  });
}

void product_wide(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                  std::int64_t out, Rows<float> y, bool adds) {
  const auto nothing = [](std::byte*) {};
  for_strips(w, first, out, 0, nothing, [&](const std::byte* weights, std::int64_t from, std::int64_t count) {
    float* const to = y.data + from;
    const std::int64_t stride = multiplied_stride(w);
    const MatmulKey key{rows, count, stride, x.stride, y.stride, 1, 0, alignment_of(to, y.stride * 4)};
    multiply(Context::get(), x.data, weights, stride, key, to, adds);
  });
}

}  // namespace cuda

void CudaBackend::matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                         std::int64_t first_out) const {
  shapes::check_matmul(x, w, y, first_out);
  if (y.rows == 0 || y.cols == 0) return;
  const float* const part = bias == nullptr ? nullptr : bias + first_out;
  if (const auto* const coded = cuda::CodedRows::of(w)) {
    if (x.rows > cuda::kMostCodedRows) return cuda::many_rows(x, w, bias, y, first_out);
    return cuda::coded_product(x, *coded, first_out, {.bias = part, .y = y, .outputs = static_cast<int>(y.cols)});
  }
  const auto& rows = cuda::PackedRows::of(w);
  // Rounding x first takes another kernel, which large matrices are worth.
  const bool streams = y.cols >= 4096 && cuda::can_stream(cuda::Context::get(), x.rows, rows);
  if (!streams && cuda::are_few(x.rows, rows)) {
    cuda::few_rows(x, rows, part, y, first_out);
  } else if (cuda::are_tile(x, rows)) {
    cuda::tile_matmul(x, rows, part, y, first_out);
  } else {
    cuda::many_rows(x, w, bias, y, first_out);
  }
}

}  // namespace molt
