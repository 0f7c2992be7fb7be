// PairPanels: the CPU backend's layout of a bfloat16 weight matrix of which every four columns hold two weights at most
// (2:4), one copy for prefill and decode and for every instruction set: 9/16 of the bytes of PackedPanels.
//
// W [N, K] is cut into panels of 64 outputs; the last is padded with zeros. A panel is one contiguous stretch of
// memory, a sequence of blocks of 32 columns, K being padded with zeros. A block is nine steps of 256 bytes, each with
// 4 bytes of every output, in the order of outputs:
//   first the codes: bits 4g .. 4g + 3 name the columns of group g, 4g .. 4g + 3 of the block, whose weights follow:
//     0: 0 and 1, 1: 0 and 2, 2: 0 and 3, 3: 1 and 2, 4: 1 and 3, 5: 2 and 3;
//   then of each group the two weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/isa/kernels.h"

namespace molt {

/// Immutable once made, so safe to share between threads.
class PairPanels final : public PackedMatrix {
 public:
  std::int64_t out_features() const override { return out_features_; }
  std::int64_t in_features() const override { return in_features_; }
  DType dtype() const override { return DType::bf16; }
  std::int64_t bytes() const override { return panels() * panel_bytes(); }

  std::int64_t panels() const { return (out_features_ + kPanelOutputs - 1) / kPanelOutputs; }
  std::int64_t blocks() const { return (in_features_ + kPairBlockColumns - 1) / kPairBlockColumns; }
  std::int64_t panel_bytes() const { return blocks() * (1 + kPairBlockGroups) * kPanelStepBytes; }

  /// The start of panel `i`, aligned to 64 bytes.
  const std::byte* panel(std::int64_t i) const { return data_.get() + i * panel_bytes(); }

 private:
  friend std::unique_ptr<PackedMatrix> pack_pairs(const Tensor& weight);

  PairPanels(std::int64_t out_features, std::int64_t in_features);

  std::int64_t out_features_;
  std::int64_t in_features_;
  std::shared_ptr<std::byte> data_;
};

/// Packs `weight` [N, K] (f32, f16, bf16 or f64) so if it is 2:4, rounded to bfloat16, on all threads; null if it is
/// not, which is soon seen, or narrower than a block.
std::unique_ptr<PackedMatrix> pack_pairs(const Tensor& weight);

/// y [T, M] = outputs [first_out, first_out + M) of x [T, K] * W^T (+ bias [N], unless null), as Backend::matmul; x is
/// rounded to bfloat16. x and y may be strided. A row of y is the same, bit for bit, for any number of threads and
/// whatever the other rows are. Safe to call from several threads.
void pair_matmul(Matrix<const float> x, const PairPanels& w, const float* bias, Matrix<float> y,
                 std::int64_t first_out = 0);

}  // namespace molt
