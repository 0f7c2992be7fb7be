// PackedRows: the CUDA backend's layout of a dense weight matrix, the one that cuBLASLt takes: rows of outputs as they
// are, each padded with zeros to a multiple of 16 bytes.
#pragma once

#include "kernels/backend.h"

namespace molt::cuda {

/// Immutable once packed.
class PackedRows final : public PackedMatrix {
 public:
  /// `values` [N, K] on the host, rounded to `stored` (f32 or bf16). `dtype`: as what it counts: `stored`, or u8.
  PackedRows(const Tensor& values, DType stored, DType dtype);

  /// One that this backend has packed.
  static const PackedRows& of(const PackedMatrix& matrix);

  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  DType dtype() const override { return dtype_; }
  std::int64_t bytes() const override { return data_.bytes(); }

  DType stored() const { return data_.dtype(); }
  std::int64_t stride() const { return data_.shape()[1]; }  // elements
  const std::byte* row(std::int64_t n) const { return data_.data() + n * stride() * size_of(stored()); }

 private:
  std::int64_t out_, in_;
  DType dtype_;
  Tensor data_;  // [N, stride], on the device
};

}  // namespace molt::cuda
