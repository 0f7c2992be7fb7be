// PackedPanels: the CPU backend's layout of a weight matrix, one copy for prefill and decode and for every instruction
// set.
//
// W [N, K] is cut into panels of 64 outputs; the last is padded with zeros. A panel is one contiguous stretch of
// memory, a sequence of steps of 256 bytes:
//   float32:  step k holds w[0..63][k];                              steps = K rounded up to a multiple of 16
//   bfloat16: step j holds w[0][2j], w[0][2j+1], w[1][2j], ...;      steps = half of K rounded up to a multiple of 32
// Both are what oneDNN calls BA16a64b and BA16a64b2a for a weight of dims {K, N}, so that it multiplies the same copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/isa/kernels.h"

namespace molt {

/// Immutable once packed, so safe to share between threads.
class PackedPanels final : public PackedMatrix {
 public:
  std::int64_t out_features() const override { return out_features_; }
  std::int64_t in_features() const override { return in_features_; }
  DType dtype() const override { return dtype_; }
  std::int64_t bytes() const override { return panels() * panel_bytes(); }

  std::int64_t panels() const;
  std::int64_t panel_bytes() const;

  /// Steps to multiply by: K in float32; in bfloat16 all of a panel's, the padding too, because a gap between panels
  /// costs more than it (measured: K = 48 runs 40% faster).
  std::int64_t steps() const { return dtype_ == DType::f32 ? in_features_ : panel_bytes() / kPanelStepBytes; }

  /// The start of panel `i`, aligned to 64 bytes.
  const std::byte* panel(std::int64_t i) const { return data_.get() + i * panel_bytes(); }

 private:
  friend std::unique_ptr<PackedMatrix> pack_panels(const Tensor& weight, DType dtype);

  PackedPanels(std::int64_t out_features, std::int64_t in_features, DType dtype);

  std::int64_t out_features_;
  std::int64_t in_features_;
  DType dtype_;
  std::shared_ptr<std::byte> data_;
};

/// Elements of a row that bfloat16 panels of K columns multiply by, zeros from K on.
inline constexpr std::int64_t padded_columns(std::int64_t columns) {
  return (columns + 31) / 32 * 32;
}

/// Packs `weight` [N, K] (f32, f16, bf16 or f64, of any alignment) as f32 or bf16, on all threads. The result is a
/// PackedPanels. Throws Error when the weight holds no floating point numbers.
std::unique_ptr<PackedMatrix> pack_panels(const Tensor& weight, DType dtype);

}  // namespace molt
