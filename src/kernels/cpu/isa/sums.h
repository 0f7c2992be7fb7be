// Sums over rows: several vectors of partial sums side by side, then a tree.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

/// Adds up `value(i, count, lanes)` over [0, n), blocks as for_blocks() asks for them, each vector by add(sum, vector).
template <class Value, class Add>
[[gnu::always_inline]] static inline float sum_by(int64_t n, Value value, Add add) {
  auto sums = Block<kBlock>::fill(0);
  for_blocks(n, [&](int64_t i, auto count, auto lanes) {
    const auto block = value(i, count, lanes);
    MOLT_UNROLL
    for (int k = 0; k < count.value; ++k) add(sums.v[k], block.v[k]);
  });
  VecF sum = sums.v[0];
  MOLT_UNROLL
  for (int k = 1; k < kBlock; ++k) sum += sums.v[k];
  return sum_of(sum);
}

/// Sum of the squares.
template <class Value>
[[gnu::always_inline]] static inline float sum_of_squares(int64_t n, Value value) {
  return sum_by(n, value, [](VecF& sum, VecF v) { sum += v * v; });
}

}  // namespace molt::MOLT_ISA
