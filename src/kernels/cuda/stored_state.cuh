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
      const std::uint32_t random = isnan(value) ? 0 : rounding_bits(key, column, row);
      data[i] = __ushort_as_bfloat16(static_cast<unsigned short>((__float_as_uint(value) + random) >> 16));
    }
  }
};

}  // namespace molt::cuda
