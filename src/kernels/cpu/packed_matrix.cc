#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/fail.h"
#include "base/parallel.h"
#include "kernels/cpu/weight_memory.h"

namespace molt {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

float to_float(float value) {
  return value;
}
float to_float(double value) {
  return static_cast<float>(value);
}
float to_float(BFloat16 value) {
  return value.to_float();
}
float to_float(Float16 value) {
  return value.to_float();
}

std::uint16_t bf16_bits(BFloat16 value) {
  return value.bits;
}
template <class T>
std::uint16_t bf16_bits(T value) {
  return BFloat16::from_float(to_float(value)).bits;
}

// Steps that are packed at once: their 64 rows of source and the packed result stay in the level-1 cache.
constexpr std::int64_t kChunkSteps = 16;

/// Writes `steps` steps of one panel of elements T, from `rows` rows (<= 64) of K elements that begin at `source`,
/// `source_step` elements of T (1 or 2) a step. The destination is all zero before.
template <class T, int kElements>
void pack_panel(const std::byte* source, std::int64_t in_features, int rows, std::byte* panel) {
  constexpr std::int64_t kChunk = kChunkSteps * kElements;
  std::array<T, kChunk> values;
  std::array<std::uint32_t, kChunkSteps> words;  // a float32, or a pair of bfloat16, as they lie in a step
  const std::int64_t row_bytes = in_features * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t k = 0; k < in_features; k += kChunk) {
    const std::int64_t count = std::min(kChunk, in_features - k);
    if (count < kChunk) values.fill(T{});
    for (int row = 0; row < rows; ++row) {
      const std::byte* from = source + row * row_bytes + k * static_cast<std::int64_t>(sizeof(T));
      std::memcpy(values.data(), from, static_cast<std::size_t>(count) * sizeof(T));
      for (std::size_t i = 0; i < kChunkSteps; ++i) {
        if constexpr (kElements == 1) {
          words[i] = std::bit_cast<std::uint32_t>(to_float(values[i]));
        } else {
          words[i] = bf16_bits(values[2 * i]) | static_cast<std::uint32_t>(bf16_bits(values[2 * i + 1])) << 16;
        }
      }
      auto* to = reinterpret_cast<std::uint32_t*>(panel + k / kElements * kPanelStepBytes) + row;
      const std::int64_t steps = (count + kElements - 1) / kElements;
      for (std::int64_t i = 0; i < steps; ++i) to[i * kPanelOutputs] = words[static_cast<std::size_t>(i)];
    }
  }
}

/// The function that packs a panel from elements of dtype `from`.
template <int kElements>
auto panel_packer(DType from) {
  switch (from) {
    case DType::f32: return pack_panel<float, kElements>;
    case DType::f64: return pack_panel<double, kElements>;
    case DType::bf16: return pack_panel<BFloat16, kElements>;
    case DType::f16: return pack_panel<Float16, kElements>;
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
  return (dtype_ == DType::f32 ? round_up(in_features_, 16) : round_up(in_features_, 32) / 2) * kPanelStepBytes;
}

std::unique_ptr<PackedMatrix> pack_panels(const Tensor& weight, DType dtype) {
  MOLT_CHECK(weight.shape().size() == 2);
  MOLT_CHECK(dtype == DType::f32 || dtype == DType::bf16);
  const auto pack_panel_from = dtype == DType::f32 ? panel_packer<1>(weight.dtype()) : panel_packer<2>(weight.dtype());
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
