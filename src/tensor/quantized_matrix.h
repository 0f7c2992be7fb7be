// QuantizedMatrix: a weight matrix as small integers, each group of a row's columns with a scale and a zero point.
//
//   value[n, k] = scale[n, g] * (code[n, k] - zero[n, g]),   g = k / group
//
// Codes are unsigned, of 8 or 4 bits. int8 takes whole rows as groups, int4 groups of 32, 64 or 128 columns. Scales are
// bfloat16: whoever rounds weights rounds the scale first and then chooses the codes for it, so that nothing more is
// lost, and a group of 64 costs 4.375 bits a weight.
//
// This is the plain form, which methods of rounding make; files hold it (docs/quantization.md) and backends pack it
// (Backend::pack). Copies share the tensors. Thread-safe to read.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/tensor.h"

namespace molt {

/// How a weight matrix is rounded: int8 (8 bits, group 0), or int4 (4 bits, group 32, 64 or 128).
struct QuantizedFormat {
  int bits = 8;
  std::int64_t group = 0;  // columns that share a scale; 0 for whole rows

  /// The largest code.
  int max_code() const { return (1 << bits) - 1; }

  /// Columns a group in a matrix of `in_features`: no group reaches beyond a row.
  std::int64_t group_of(std::int64_t in_features) const {
    return group == 0 || group > in_features ? in_features : group;
  }
  std::int64_t groups_of(std::int64_t in_features) const {
    const std::int64_t columns = group_of(in_features);
    return columns == 0 ? 0 : (in_features + columns - 1) / columns;
  }

  bool operator==(const QuantizedFormat&) const = default;
};

/// Whether it is one of the four formats.
bool is_valid(const QuantizedFormat& format);

/// "int8", "int4 in groups of 64".
std::string to_string(const QuantizedFormat& format);

struct QuantizedMatrix {
  QuantizedFormat format;
  Tensor codes;   // u8 [N, K], 0 .. max_code, one a byte
  Tensor scales;  // bf16 [N, G], finite, not negative; G = groups_of(K)
  Tensor zeros;   // u8 [N, G], 0 .. max_code

  /// A matrix [out, in] of zeros, to be filled.
  QuantizedMatrix(const QuantizedFormat& format_, std::int64_t out, std::int64_t in);

  /// Of these tensors, whose shapes must agree.
  QuantizedMatrix(const QuantizedFormat& format_, Tensor codes_, Tensor scales_, Tensor zeros_);

  std::int64_t out_features() const { return codes.shape()[0]; }
  std::int64_t in_features() const { return codes.shape()[1]; }
  std::int64_t group() const { return format.group_of(in_features()); }
  std::int64_t groups() const { return scales.shape()[1]; }
};

/// The values that a group's codes stand for.
struct QuantizedGrid {
  BFloat16 scale;
  std::uint8_t zero = 0;

  float value(int code) const { return scale.to_float() * static_cast<float>(code - zero); }
};

/// The grid that reaches from `low` to `high`, both finite. Of 8 bits: symmetric about 0, zero point 128. Of 4 bits:
/// the narrowest that holds 0, too.
QuantizedGrid make_grid(float low, float high, int bits);

/// The code whose value is nearest to `value`, which is finite.
int nearest_code(const QuantizedGrid& grid, float value, int bits);

/// The values as float32, [N, K]. On all threads.
Tensor dequantize(const QuantizedMatrix& matrix);

/// Every weight rounded to the nearest value of its group's grid, which reaches from the group's least to its greatest
/// weight. `weight` [N, K]: f32, f16, bf16 or f64. On all threads. Throws Error when a weight is not finite.
QuantizedMatrix round_to_nearest(const Tensor& weight, const QuantizedFormat& format);

}  // namespace molt
