// Tile: a small product of row-major matrices held in registers, the building block of the chunked state space dual
// scan.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

/// Rows and vectors of the largest tile: its sums, one row of the right factor and one broadcast fit the registers.
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = kVectorRegisters == 32 ? 4 : 2;

/// kRows rows of kVectors vectors.
template <int kRows, int kVectors>
struct Tile {
  VecF sum[kRows][kVectors];

  [[gnu::always_inline]] void clear() {
    MOLT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = VecF{};
    }
  }

  /// += left [kRows, k] * right [k, kVectors * kLanes].
  [[gnu::always_inline]] void multiply_add(const float* left, int64_t left_stride, const float* right,
                                           int64_t right_stride, int64_t k) {
    for (int64_t i = 0; i < k; ++i) {
      VecF row[kVectors];
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) row[v] = load(right + i * right_stride + v * kLanes);
      MOLT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const VecF factor = broadcast(left[r * left_stride + i]);
        MOLT_UNROLL
        for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
      }
    }
  }
};

/// Calls body(row, Constant<rows>) for bands of at most kTileRows rows that cover [0, rows).
template <class Body>
[[gnu::always_inline]] static inline void for_bands(int64_t rows, Body body) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) body(r, Constant<kTileRows>{});
  switch (rows - r) {
    case 1: return body(r, Constant<1>{});
    case 2: return body(r, Constant<2>{});
    case 3: return body(r, Constant<3>{});
    case 4: return body(r, Constant<4>{});
    case 5: return body(r, Constant<5>{});
    default: return;
  }
}

/// Calls body(column, Constant<vectors>) for tiles of kTileVectors vectors or one, that cover columns [0, cols), a
/// multiple of kLanes.
template <class Body>
[[gnu::always_inline]] static inline void for_tile_columns(int64_t cols, Body body) {
  int64_t c = 0;
  for (; c + kTileVectors * kLanes <= cols; c += kTileVectors * kLanes) body(c, Constant<kTileVectors>{});
  for (; c < cols; c += kLanes) body(c, Constant<1>{});
}

}  // namespace molt::MOLT_ISA
