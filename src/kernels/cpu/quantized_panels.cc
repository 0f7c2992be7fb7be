#include "kernels/cpu/quantized_panels.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/parallel.h"
#include "kernels/cpu/weight_memory.h"

namespace molt {
namespace {

// Of a group's head.
constexpr std::int64_t kZerosAt = kPanelOutputs * sizeof(BFloat16);
static_assert(kZerosAt + kPanelOutputs == kGroupHeadBytes);

int block_of(const QuantizedFormat& format, std::int64_t in_features) {
  const std::int64_t beyond = in_features % 64;
  return format.group == 32 || (format.group == 0 && 0 < beyond && beyond <= 32) ? 32 : 64;
}

std::int64_t padded_group(const QuantizedFormat& format, std::int64_t in_features) {
  const std::int64_t block = block_of(format, in_features);
  return format.group != 0 ? format.group : (in_features + block - 1) / block * block;
}

}  // namespace

QuantizedPanels::QuantizedPanels(const QuantizedMatrix& weight)
    : format_(weight.format),
      block_(block_of(weight.format, weight.in_features())),
      out_features_(weight.out_features()),
      in_features_(weight.in_features()),
      groups_(weight.groups()),
      group_columns_(padded_group(weight.format, weight.in_features())),
      data_(allocate_weights(bytes())) {
  parallel_for(panels(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) pack(weight, i);
  });
}

void QuantizedPanels::pack(const QuantizedMatrix& weight, std::int64_t i) {
  std::byte* const panel = data_.get() + i * panel_bytes();
  std::memset(panel, 0, static_cast<std::size_t>(panel_bytes()));
  const std::int64_t first = i * kPanelOutputs;
  const std::int64_t outputs = std::min<std::int64_t>(kPanelOutputs, out_features_ - first);
  for (std::int64_t o = 0; o < outputs; ++o) {
    const std::int64_t n = first + o;
    const auto* codes = weight.codes.as<std::uint8_t>() + n * in_features_;
    for (std::int64_t g = 0; g < groups_; ++g) {
      std::byte* const head = panel + g * group_bytes();
      std::memcpy(head + o * 2, weight.scales.as<BFloat16>() + n * groups_ + g, sizeof(BFloat16));
      head[kZerosAt + o] = std::byte{weight.zeros.as<std::uint8_t>()[n * groups_ + g]};
      std::byte* const steps = head + kGroupHeadBytes + o * 4;
      const std::int64_t begin = g * group_columns_;
      const std::int64_t columns = std::min(group_columns_, in_features_ - begin);
      for (std::int64_t k = 0; k < columns; ++k) {
        const std::int64_t in_step = k % step_columns();
        std::byte& place = steps[k / step_columns() * kPanelStepBytes + in_step % 4];
        place |= std::byte{codes[begin + k]} << (in_step < 4 ? 0 : 4);
      }
    }
  }
}

void QuantizedPanels::read_row(std::int64_t n, float* to) const {
  MOLT_CHECK(0 <= n && n < out_features_);
  const std::int64_t o = n % kPanelOutputs;
  const auto mask = std::byte{static_cast<unsigned char>(format_.max_code())};
  for (std::int64_t g = 0; g < groups_; ++g) {
    const std::byte* const head = panel(n / kPanelOutputs) + g * group_bytes();
    QuantizedGrid grid;
    std::memcpy(&grid.scale, head + o * 2, sizeof(BFloat16));
    grid.zero = std::to_integer<std::uint8_t>(head[kZerosAt + o]);
    const std::byte* const steps = head + kGroupHeadBytes + o * 4;
    const std::int64_t begin = g * group_columns_;
    const std::int64_t columns = std::min(group_columns_, in_features_ - begin);
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::int64_t in_step = k % step_columns();
      const std::byte place = steps[k / step_columns() * kPanelStepBytes + in_step % 4];
      to[begin + k] = grid.value(std::to_integer<int>((place >> (in_step < 4 ? 0 : 4)) & mask));
    }
  }
}

}  // namespace molt
