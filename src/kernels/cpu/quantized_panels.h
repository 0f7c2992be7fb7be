// QuantizedPanels: the CPU backend's layout of a quantized weight matrix, one copy for prefill, decode and looking rows
// up, and for every instruction set.
//
// W [N, K] is cut into panels of 64 outputs, as PackedPanels are; the last is padded with outputs whose scale is 0. A
// panel is one contiguous stretch of memory, a sequence of groups of columns. A group is
//   64 scales, bfloat16 (128 bytes), and 64 zero points, bytes: what decoding needs lies where it reads;
//   steps of 256 bytes, 4 of each output, in the order of outputs:
//     int8: the codes of columns 4j .. 4j + 3;
//     int4: byte i holds the codes of columns 8j + i (lower half) and 8j + 4 + i (upper half).
// Columns are padded to a multiple of the group (int8: of block()); inputs are zeros there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/isa/kernels.h"
#include "tensor/quantized_matrix.h"

namespace molt {

/// Immutable once made, so safe to share between threads.
class QuantizedPanels final : public PackedMatrix {
 public:
  /// Packs `weight`, on all threads.
  explicit QuantizedPanels(const QuantizedMatrix& weight);

  std::int64_t out_features() const override { return out_features_; }
  std::int64_t in_features() const override { return in_features_; }
  DType dtype() const override { return DType::u8; }
  std::int64_t bytes() const override { return panels() * panel_bytes(); }

  int bits() const { return format_.bits; }
  std::int64_t panels() const { return (out_features_ + kPanelOutputs - 1) / kPanelOutputs; }
  std::int64_t panel_bytes() const { return groups_ * group_bytes(); }

  /// Columns of x that share a scale: 64, or 32 where weights have groups of 32 or where whole rows of weights need
  /// less padding so (dt_proj has 96 columns).
  int block() const { return block_; }
  std::int64_t groups() const { return groups_; }
  /// Blocks of x a group.
  std::int64_t group_blocks() const { return group_columns_ / block(); }

  /// The start of panel `i`, aligned to 64 bytes.
  const std::byte* panel(std::int64_t i) const { return data_.get() + i * panel_bytes(); }

  /// Row `n` of the matrix as float32: `to` [in_features].
  void read_row(std::int64_t n, float* to) const;

 private:
  std::int64_t step_columns() const { return format_.bits == 8 ? 4 : 8; }
  std::int64_t group_bytes() const { return kGroupHeadBytes + group_columns_ / step_columns() * kPanelStepBytes; }

  /// Fills panel `i`, all zero before.
  void pack(const QuantizedMatrix& weight, std::int64_t i);

  QuantizedFormat format_;
  int block_;
  std::int64_t out_features_;
  std::int64_t in_features_;
  std::int64_t groups_;
  std::int64_t group_columns_;  // padded
  std::shared_ptr<std::byte> data_;
};

}  // namespace molt
