// States in bfloat16 as the inner loops take them, and to float32 and back for calls of several rows.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/isa/kernels.h"

namespace molt {

/// From the element that lies `offset` from the first and stands in `row` of `column` (see random_rounding.h).
inline RoundedElementsAt elements_at(const RoundedState& state, std::int64_t offset, std::int64_t column,
                                     std::int64_t row = 0) {
  return {&state.data[offset].bits, state.key, static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(row)};
}

/// Some columns of a state, through all its rows.
struct RoundedColumns {
  const RoundedState& state;
  std::int64_t offset;  // of the first element
  std::int64_t stride;  // from row to row
  std::int64_t column;
  std::int64_t columns;
  std::int64_t rows;

  /// wide [rows, columns] = these elements.
  void widen(const Kernels& kernels, float* wide) const {
    for (std::int64_t n = 0; n < rows; ++n) {
      kernels.bf16_to_f32(state.data + offset + n * stride, wide + n * columns, columns);
    }
  }

  /// These elements = wide [rows, columns], rounded at random.
  void round_back(const Kernels& kernels, const float* wide) const {
    for (std::int64_t n = 0; n < rows; ++n) {
      kernels.round_state(wide + n * columns, elements_at(state, offset + n * stride, column, n), columns);
    }
  }
};

}  // namespace molt
