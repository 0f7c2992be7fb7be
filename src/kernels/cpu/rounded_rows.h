// RoundedRows: rows of x as bfloat16 panels are multiplied by, in scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/scratch.h"

namespace molt {

/// Between rows lies a cache line, so that those of a tile, read side by side, do not meet in the same few places of a
/// cache. Rows may be rounded by several threads.
class RoundedRows {
 public:
  /// Room for `rows` rows of `columns` floats each, in `scratch`, whose memory it is.
  RoundedRows(const Kernels& kernels, std::int64_t columns, std::int64_t rows, Scratch& scratch)
      : kernels_(&kernels), columns_(columns), stride_(padded_columns(columns) + kGap) {
    constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
    data_ = reinterpret_cast<std::byte*>(scratch.get((rows * row_bytes() + kFloatBytes - 1) / kFloatBytes));
  }

  /// Row i = x [columns], rounded, and zeros behind it.
  void round(std::int64_t i, const float* x) const {
    kernels_->round_row(x, columns_, padded_columns(columns_), data_ + i * row_bytes());
  }

  /// Row i = factor * x.
  void round(std::int64_t i, const float* x, float factor) const {
    kernels_->round_scaled_row(x, factor, columns_, padded_columns(columns_), data_ + i * row_bytes());
  }

  const std::byte* row(std::int64_t i) const { return data_ + i * row_bytes(); }
  std::int64_t stride() const { return stride_; }  // elements
  std::int64_t row_bytes() const { return stride_ * kernels_->rounded_bytes; }

 private:
  static constexpr std::int64_t kGap = 32;  // elements

  const Kernels* kernels_;
  std::int64_t columns_;
  std::int64_t stride_;
  std::byte* data_ = nullptr;
};

}  // namespace molt
