// StoredState: a scan's state as it lies, float32 or bfloat16, the latter rounded at random where it is written.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/random_rounding.h"

namespace molt::cuda {

/// T: float or __nv_bfloat16.
template <class T>
struct StoredState {
  T* data;
  std::uint32_t key;

  static constexpr int kUnit = 16 / sizeof(T);  // elements of 16 bytes

  __device__ float get(std::int64_t i) const {
    if constexpr (sizeof(T) == 4) {
      return data[i];
    } else {
      return __bfloat162float(data[i]);
    }
  }

  /// Element i, which stands in `row` of `column` (random_rounding.h).
  __device__ void set(std::int64_t i, std::uint32_t column, std::uint32_t row, float value) const {
    if constexpr (sizeof(T) == 4) {
      data[i] = value;
    } else {
      data[i] =
          __ushort_as_bfloat16(static_cast<unsigned short>(with_random(value, rounding_bits(key, column, row)) >> 16));
    }
  }

  static __device__ void widen(const uint4& unit, float (&values)[kUnit]) {
    const std::uint32_t words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if constexpr (sizeof(T) == 4) {
        values[w] = __uint_as_float(words[w]);
      } else {
        values[2 * w] = __uint_as_float(words[w] << 16);
        values[2 * w + 1] = __uint_as_float(words[w] & 0xffff0000U);
      }
    }
  }

  /// What rounds kUnit columns from `column` on.
  struct Columns {
    std::uint32_t mixed[sizeof(T) == 4 ? 1 : kUnit];
  };
  __device__ Columns columns(std::uint32_t column) const {
    Columns result{};
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int k = 0; k < kUnit; ++k) result.mixed[k] = rounding_column(key, column + static_cast<std::uint32_t>(k));
    }
    return result;
  }

  /// Elements i to i + kUnit, aligned to 16 bytes, of these columns.
  __device__ void set_unit(std::int64_t i, const Columns& columns, std::uint32_t row,
                           const float (&values)[kUnit]) const {
    std::uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if constexpr (sizeof(T) == 4) {
        words[w] = __float_as_uint(values[w]);
      } else {
        // The upper halves of both.
        words[w] = __byte_perm(with_random(values[2 * w], rounding_bits(columns.mixed[2 * w], row)),
                               with_random(values[2 * w + 1], rounding_bits(columns.mixed[2 * w + 1], row)), 0x7632);
      }
    }
    *reinterpret_cast<uint4*>(data + i) = {words[0], words[1], words[2], words[3]};
  }

 private:
  /// The bits of `value`, of which the upper half is what it is rounded to.
  static __device__ std::uint32_t with_random(float value, std::uint32_t random) {
    return __float_as_uint(value) + (isnan(value) ? 0 : random);
  }
};

}  // namespace molt::cuda
