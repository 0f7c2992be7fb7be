#include "tensor/quantized_matrix.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/fail.h"
#include "base/parallel.h"

namespace molt {
namespace {

constexpr std::int64_t kGrain = 8;  // rows

/// Rows [begin, end) of a matrix, converted.
Tensor rows_as_f32(const Tensor& matrix, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = matrix.shape()[1];
  std::byte* const data = matrix.data() + begin * cols * size_of(matrix.dtype());
  return Tensor(matrix.dtype(), {end - begin, cols}, data, nullptr).to_f32();
}

}  // namespace

bool is_valid(const QuantizedFormat& format) {
  return format == QuantizedFormat{8, 0} || format == QuantizedFormat{4, 32} || format == QuantizedFormat{4, 64} ||
         format == QuantizedFormat{4, 128};
}

std::string to_string(const QuantizedFormat& format) {
  return format.group == 0 ? fmt::format("int{}", format.bits)
                           : fmt::format("int{} in groups of {}", format.bits, format.group);
}

QuantizedMatrix::QuantizedMatrix(const QuantizedFormat& format_, std::int64_t out, std::int64_t in)
    : QuantizedMatrix(format_, Tensor::zeros(DType::u8, {out, in}),
                      Tensor::zeros(DType::bf16, {out, format_.groups_of(in)}),
                      Tensor::zeros(DType::u8, {out, format_.groups_of(in)})) {}

QuantizedMatrix::QuantizedMatrix(const QuantizedFormat& format_, Tensor codes_, Tensor scales_, Tensor zeros_)
    : format(format_), codes(std::move(codes_)), scales(std::move(scales_)), zeros(std::move(zeros_)) {
  MOLT_CHECK(is_valid(format));
  MOLT_CHECK(codes.shape().size() == 2 && codes.dtype() == DType::u8);
  MOLT_CHECK(scales.dtype() == DType::bf16 && zeros.dtype() == DType::u8);
  MOLT_CHECK((scales.shape() == Shape{out_features(), format.groups_of(in_features())}));
  MOLT_CHECK(zeros.shape() == scales.shape());
}

QuantizedGrid make_grid(float low, float high, int bits) {
  if (bits == 8) {
    const float reach = std::max(std::abs(low), std::abs(high));
    return {BFloat16::from_float(reach / 127), 128};
  }
  low = std::min(low, 0.0F);
  high = std::max(high, 0.0F);
  const float max_code = static_cast<float>((1 << bits) - 1);
  const BFloat16 scale = BFloat16::from_float(high / max_code - low / max_code);  // the difference could overflow
  if (scale.to_float() == 0) return {scale, 0};
  return {scale, static_cast<std::uint8_t>(std::clamp(std::nearbyint(-low / scale.to_float()), 0.0F, max_code))};
}

int nearest_code(const QuantizedGrid& grid, float value, int bits) {
  const float scale = grid.scale.to_float();
  if (scale == 0) return grid.zero;
  const auto max_code = static_cast<float>((1 << bits) - 1);
  return static_cast<int>(std::clamp(std::nearbyint(value / scale) + static_cast<float>(grid.zero), 0.0F, max_code));
}

Tensor dequantize(const QuantizedMatrix& matrix) {
  const std::int64_t cols = matrix.in_features();
  const std::int64_t group = matrix.group();
  Tensor values = Tensor::uninitialized(DType::f32, {matrix.out_features(), cols});
  parallel_for(matrix.out_features(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const auto* codes = matrix.codes.as<std::uint8_t>() + n * cols;
      float* row = values.as<float>() + n * cols;
      for (std::int64_t k = 0; k < cols; ++k) {
        const std::int64_t g = n * matrix.groups() + k / group;
        row[k] = QuantizedGrid{matrix.scales.as<BFloat16>()[g], matrix.zeros.as<std::uint8_t>()[g]}.value(codes[k]);
      }
    }
  });
  return values;
}

QuantizedMatrix round_to_nearest(const Tensor& weight, const QuantizedFormat& format) {
  MOLT_CHECK(weight.shape().size() == 2);
  const std::int64_t cols = weight.shape()[1];
  QuantizedMatrix rounded(format, weight.shape()[0], cols);
  const std::int64_t group = rounded.group();
  parallel_for(weight.shape()[0], kGrain, [&](std::int64_t begin, std::int64_t end) {
    const Tensor values = rows_as_f32(weight, begin, end);
    for (std::int64_t n = begin; n < end; ++n) {
      const float* row = values.as<float>() + (n - begin) * cols;
      const auto* bad = std::find_if_not(row, row + cols, [](float value) { return std::isfinite(value); });
      if (bad != row + cols) fail("the weight in row {}, column {} is {}: it cannot be rounded", n, bad - row, *bad);
      for (std::int64_t g = 0; g < rounded.groups(); ++g) {
        const std::int64_t first = g * group;
        const std::int64_t last = std::min(cols, first + group);
        const auto [low, high] = std::minmax_element(row + first, row + last);
        const QuantizedGrid grid = make_grid(*low, *high, format.bits);
        rounded.scales.as<BFloat16>()[n * rounded.groups() + g] = grid.scale;
        rounded.zeros.as<std::uint8_t>()[n * rounded.groups() + g] = grid.zero;
        auto* codes = rounded.codes.as<std::uint8_t>() + n * cols;
        for (std::int64_t k = first; k < last; ++k) {
          codes[k] = static_cast<std::uint8_t>(nearest_code(grid, row[k], format.bits));
        }
      }
    }
  });
  return rounded;
}

}  // namespace molt
