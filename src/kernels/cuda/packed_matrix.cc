#include "kernels/cuda/packed_matrix.h"

#include <cstring>

#include "base/parallel.h"
#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/scratch.h"

namespace molt {
namespace cuda {
namespace {

Tensor rounded(const Tensor& values, DType stored) {
  if (values.dtype() == stored) return values;
  if (stored == DType::f32) return values.to_f32();
  return values.dtype() == DType::f64 ? values.to_f32().to_bf16() : values.to_bf16();
}

}  // namespace

PackedRows::PackedRows(const Tensor& values, DType stored, DType dtype)
    : out_(values.shape()[0]), in_(values.shape()[1]), dtype_(dtype) {
  MOLT_CHECK(values.shape().size() == 2 && (stored == DType::f32 || stored == DType::bf16));
  const Tensor plain = rounded(values, stored);
  const std::int64_t element = size_of(stored);
  const std::int64_t stride = padded_inputs(in_, stored);
  if (stride == in_) {
    data_ = device_memory().place(Tensor(stored, {out_, stride}, plain.data(), nullptr));
    return;
  }
  const Tensor padded = Tensor::zeros(stored, {out_, stride});
  for (std::int64_t n = 0; n < out_; ++n) {
    std::memcpy(padded.data() + n * stride * element, plain.data() + n * in_ * element,
                static_cast<std::size_t>(in_ * element));
  }
  data_ = device_memory().place(padded);
}

const PackedRows& PackedRows::of(const PackedMatrix& matrix) {
  const auto* const rows = dynamic_cast<const PackedRows*>(&matrix);
  MOLT_CHECK(rows != nullptr);
  return *rows;
}

}  // namespace cuda

bool CudaBackend::looks_up(const PackedMatrix& packed, DType dtype) const {
  if (cuda::CodedRows::of(packed) != nullptr) return cuda::holds_exactly(packed.dtype(), dtype);
  return cuda::holds_exactly(cuda::PackedRows::of(packed).stored(), dtype);
}

std::unique_ptr<PackedMatrix> CudaBackend::pack(const Tensor& weight, DType dtype) const {
  if (dtype == DType::bf16) {
    if (const auto size = cuda::coded_size(weight)) return std::make_unique<cuda::CodedRows>(weight, *size);
  }
  return std::make_unique<cuda::PackedRows>(weight, dtype, dtype);
}

std::unique_ptr<PackedMatrix> CudaBackend::pack(const QuantizedMatrix& weight) const {
  if (const auto size = cuda::coded_size(weight)) return std::make_unique<cuda::CodedRows>(weight, *size);
  return std::make_unique<cuda::PackedRows>(dequantize(weight), precision_, DType::u8);
}

}  // namespace molt
