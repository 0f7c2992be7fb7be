// QuantizedMatrix: a weight matrix as small integers, each group of a row's columns with a scale and a zero point.
//
//   value[n, k] = scale[n, g] * (code[n, k] - zero[n, g]),   g = k / group
//
// Codes are unsigned, of 8 or 4 bits. int8 takes one group a row, symmetric: zero is 128. int4 takes groups of 32, 64 or
// 128 columns with zero points of their own. Scales are bfloat16: whoever rounds weights rounds the scale first and
// then chooses the codes for it, so that nothing more is lost, and a group of 64 costs 4.375 bits a weight.
//
// This is the plain form, which methods of rounding make and files hold; backends pack it (Backend::pack). Copies share
// the tensors. Thread-safe to read.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/tensor.h"

namespace molt {

/// How a weight matrix is rounded.
struct QuantizedFormat {
  int bits = 8;            // 8 or 4
  std::int64_t group = 0;  // columns that share a scale: 32, 64, 128, or 0 for whole rows

  /// 2^bits - 1, the largest code.
  int max_code() const { return (1 << bits) - 1; }
  /// Columns a group of a matrix with `in_features` columns: a group never reaches beyond the row.
  std::int64_t group_of(std::int64_t in_features) const {
    return group == 0 || group > in_features ? in_features : group;
  }
  bool operator==(const QuantizedFormat&) const = default;
};

/// "int8", "int4 in groups of 64".
std::string to_string(const QuantizedFormat& format);

struct QuantizedMatrix {
  QuantizedFormat format;
  Tensor codes;   // u8 [N, K], 0 .. max_code, one a byte
  Tensor scales;  // bf16 [N, G], finite, not negative; G = ceil(K / group)
  Tensor zeros;   // u8 [N, G], 0 .. max_code

  std::int64_t out_features() const { return codes.shape()[0]; }
  std::int64_t in_features() const { return codes.shape()[1]; }
  std::int64_t group() const { return format.group_of(in_features()); }
  std::int64_t groups() const { return scales.shape()[1]; }

  /// A matrix [out, in] of zeros, to be filled.
  static QuantizedMatrix zeros_like(const QuantizedFormat& format, std::int64_t out, std::int64_t in);
};

/// The scale and the zero point of a group.
struct Grid {
  BFloat16 scale;
  std::uint8_t zero = 0;

  float value(int code) const { return scale.to_float() * static_cast<float>(code - zero); }
};

/// The grid of `bits` bits that holds both `low` and `high`, finite: symmetric about 0 with zero point 2^(bits - 1) for
/// 8 bits; for 4 bits the narrowest that holds 0 exactly, too.
Grid make_grid(float low, float high, int bits);

/// The code whose value is nearest to `value`.
int nearest_code(const Grid& grid, float value, int bits);

/// The values as float32, [N, K].
Tensor dequantize(const QuantizedMatrix& matrix);

/// Every weight rounded to the nearest value of its group's grid, whose ends are the group's least and greatest weight.
/// `weight` [N, K]: f32, f16, bf16 or f64. On all threads. Throws Error when a weight is not finite.
QuantizedMatrix round_to_nearest(const Tensor& weight, const QuantizedFormat& format);

}  // namespace molt
