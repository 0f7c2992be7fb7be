#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/fail.h"
#include "base/parallel.h"
#include "kernels/cpu/elements.h"
#include "kernels/cpu/weight_memory.h"

namespace molt {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Steps that are packed at once: long enough runs of each source row for the hardware to read ahead, and a result that
// stays in the level-1 cache while 64 rows are scattered over it.
constexpr std::int64_t kChunkSteps = 64;

/// Converts elements as they will lie in a panel: to float32, or to bfloat16.
template <class T>
void convert(const T* values, std::size_t count, float* converted) {
  for (std::size_t i = 0; i < count; ++i) converted[i] = to_float(values[i]);
}
template <class T>
void convert(const T* values, std::size_t count, BFloat16* converted) {
  for (std::size_t i = 0; i < count; ++i) converted[i] = BFloat16::from_float(to_float(values[i]));
}
void convert(const BFloat16* values, std::size_t count, BFloat16* converted) {
  std::copy_n(values, count, converted);
}

/// Fills a panel of `Element` (float or BFloat16), all zero before, from `rows` rows (<= 64) of `in_features` elements
/// T that begin at `source`.
template <class T, class Element>
void pack_panel(const std::byte* source, std::int64_t in_features, int rows, std::byte* panel) {
  constexpr std::int64_t kStep = sizeof(std::uint32_t) / sizeof(Element);  // of one output, in a step
  constexpr std::int64_t kChunk = kChunkSteps * kStep;
  std::array<T, kChunk> values{};
  std::array<Element, kChunk> converted;
  std::array<std::uint32_t, kChunkSteps> words;
  const std::int64_t row_bytes = in_features * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t k = 0; k < in_features; k += kChunk) {
    const std::int64_t count = std::min(kChunk, in_features - k);
    if (count < kChunk) values.fill(T{});
    const std::int64_t steps = (count + kStep - 1) / kStep;
    for (int row = 0; row < rows; ++row) {
      const std::byte* from = source + row * row_bytes + k * static_cast<std::int64_t>(sizeof(T));
      std::memcpy(values.data(), from, static_cast<std::size_t>(count) * sizeof(T));
      convert(values.data(), kChunk, converted.data());
      std::memcpy(words.data(), converted.data(), sizeof(words));
      auto* to = reinterpret_cast<std::uint32_t*>(panel + k / kStep * kPanelStepBytes) + row;
      for (std::int64_t i = 0; i < steps; ++i) to[i * kPanelOutputs] = words[static_cast<std::size_t>(i)];
    }
  }
}

/// The function that packs a panel from elements of dtype `from`.
template <class Element>
auto panel_packer(DType from) {
  switch (from) {
    case DType::f32: return pack_panel<float, Element>;
    case DType::f64: return pack_panel<double, Element>;
    case DType::bf16: return pack_panel<BFloat16, Element>;
    case DType::f16: return pack_panel<Float16, Element>;
    default:
      fail("a weight matrix of dtype {} cannot be multiplied by: it must be f32, f16, bf16 or f64", name_of(from));
  }
}

}  // namespace

PackedPanels::PackedPanels(std::int64_t out_features, std::int64_t in_features, DType dtype)
    : out_features_(out_features), in_features_(in_features), dtype_(dtype) {
  data_ = allocate_weights(bytes());
}

std::int64_t PackedPanels::panels() const {
  return (out_features_ + kPanelOutputs - 1) / kPanelOutputs;
}

std::int64_t PackedPanels::panel_bytes() const {
  return (dtype_ == DType::f32 ? round_up(in_features_, 16) : padded_columns(in_features_) / 2) * kPanelStepBytes;
}

std::unique_ptr<PackedMatrix> pack_panels(const Tensor& weight, DType dtype) {
  MOLT_CHECK(weight.shape().size() == 2);
  MOLT_CHECK(dtype == DType::f32 || dtype == DType::bf16);
  const auto pack_panel_from =
      dtype == DType::f32 ? panel_packer<float>(weight.dtype()) : panel_packer<BFloat16>(weight.dtype());
  const std::int64_t outputs = weight.shape()[0];
  const std::int64_t inputs = weight.shape()[1];
  std::unique_ptr<PackedPanels> packed(new PackedPanels(outputs, inputs, dtype));
  const std::int64_t row_bytes = inputs * size_of(weight.dtype());
  parallel_for(packed->panels(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      std::byte* panel = packed->data_.get() + p * packed->panel_bytes();
      std::memset(panel, 0, static_cast<std::size_t>(packed->panel_bytes()));
      const std::int64_t first = p * kPanelOutputs;
      const auto rows = static_cast<int>(std::min<std::int64_t>(kPanelOutputs, outputs - first));
      pack_panel_from(weight.data() + first * row_bytes, inputs, rows, panel);
    }
  });
  return packed;
}

}  // namespace molt
