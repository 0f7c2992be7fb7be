// DType: the element types of tensors, and the 16-bit floats' conversions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace molt {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i64, i32, i16, i8, u8, boolean };

/// Bytes of one element.
std::int64_t size_of(DType dtype);

/// "f32", "bf16", ...
std::string_view name_of(DType dtype);

/// A bfloat16 value as its bits. Conversion from float rounds to nearest, ties to even.
struct BFloat16 {
  std::uint16_t bits = 0;

  static BFloat16 from_float(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
    const std::uint32_t quiet_nan = (u >> 16) | 0x40U;
    return {static_cast<std::uint16_t>((u & 0x7fffffffU) > 0x7f800000U ? quiet_nan : rounded)};
  }
  float to_float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// An IEEE half-precision value as its bits.
struct Float16 {
  std::uint16_t bits = 0;

  float to_float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
    const std::uint32_t magnitude = bits & 0x7fffU;
    // Halves are exact multiples of 2^-24; scaling by a power of two rebuilds normal and subnormal ones alike.
    const auto rebiased = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112F);
    const std::uint32_t special = 0x7f800000U | ((magnitude & 0x3ffU) << 13);  // infinities and NaN
    return std::bit_cast<float>(sign | (magnitude >= 0x7c00U ? special : rebiased));
  }
};

}  // namespace molt
