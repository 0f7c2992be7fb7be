// What best_match needs beside a matrix product in bfloat16: rows scaled and rounded on either side of it, and the
// greatest of what comes out.
//
// A panel wants the rows of one side transposed, two columns (32 bits) at a time. Squares of as many rows as a vector
// has lanes, by as many pairs, are turned in registers: row by row the pairs would be stored one by one, 256 bytes
// apart.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/rounding.h"

namespace molt::MOLT_ISA {
namespace {

// Steps of a panel that are fetched ahead of those that are written: they are in no cache.
constexpr int64_t kAhead = 2 * kLanes;

constexpr float kLeast = -__builtin_inff();

/// Lane i is lane from[i] of a, or from kLanes on of b.
template <class Vec>
[[gnu::always_inline]] inline Vec shuffle(Vec a, Vec b, VecI from) {
#if defined(__clang__)
  Vec result;
  MOLT_UNROLL
  for (int i = 0; i < kLanes; ++i) result[i] = from[i] < kLanes ? a[from[i]] : b[from[i] - kLanes];
  return result;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

/// One step of a transposition: of each two vectors `width` apart one keeps the lanes whose number has that bit unset
/// and gets the other's, moved up; the other keeps those whose number has it set.
template <int kWidth>
inline void exchange(VecI (&rows)[kLanes]) {
  const VecI lane = lane_numbers();
  const VecI upper = (lane & kWidth) != 0;
  const VecI first = (~upper & lane) | (upper & (lane + kLanes - kWidth));
  const VecI second = (~upper & (lane + kWidth)) | (upper & (lane + kLanes));
  MOLT_UNROLL
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kWidth) != 0) continue;
    const VecI a = rows[i], b = rows[i + kWidth];
    rows[i] = shuffle(a, b, first);
    rows[i + kWidth] = shuffle(a, b, second);
  }
}

inline void transpose(VecI (&rows)[kLanes]) {
  if constexpr (kLanes > 8) exchange<8>(rows);
  if constexpr (kLanes > 4) exchange<4>(rows);
  exchange<2>(rows);
  exchange<1>(rows);
}

/// kLanes pairs of columns of factor * x, rounded; of `columns` that are there, zeros behind them.
[[gnu::always_inline]] inline VecI pairs_at(const float* x, float factor, int64_t columns) {
  VecU16 halves[2];
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t there = columns - half * kLanes;
    const float* const from = x + half * kLanes;
    const VecF v = there >= kLanes ? load(from) : there > 0 ? load_first(from, static_cast<int>(there)) : VecF{};
    halves[half] = rounded_bits(v * factor);
  }
  VecI pairs;
  __builtin_memcpy(&pairs, halves, sizeof(pairs));
  return pairs;
}

inline float greatest_lane(VecF v) {
  MOLT_UNROLL
  for (int width = kLanes / 2; width > 0; width /= 2) v = max(v, shuffle(v, v, lane_numbers() ^ width));
  return v[0];
}

/// Bit i: whether lane i is true.
inline uint64_t bits_of_lanes(VecI is_true) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(is_true));
#elif defined(__AVX__)
  return static_cast<uint64_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(is_true)));
#else
  uint64_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint64_t>(is_true[i] != 0) << i;
  return bits;
#endif
}

}  // namespace

void round_scaled_row(const float* x, float factor, int64_t n, int64_t padded, void* rounded) {
  auto* out = static_cast<Rounded*>(rounded);
  for_vectors(n, [&](int64_t i, auto lanes) { store_rounded(out + i, at(x + i, lanes) * factor, lanes); });
  for (int64_t i = n; i < padded; ++i) out[i] = 0;
}

void pack_scaled_rows(const float* const* rows, const float* factors, int count, int64_t n, int64_t steps,
                      void* panel) {
  for (int first = 0; first < kPanelOutputs; first += kLanes) {
    const int there = count - first < kLanes ? count - first : kLanes;
    for (int64_t step = 0; step < steps; step += kLanes) {
      VecI square[kLanes] = {};
      const auto fill = [&](int r, int64_t columns) {
        square[r] = pairs_at(rows[first + r] + 2 * step, factors[first + r], columns);
      };
      if (there == kLanes && n - 2 * step >= 2 * kLanes) {  // all but the edges: the square stays in registers
        MOLT_UNROLL
        for (int r = 0; r < kLanes; ++r) fill(r, 2 * kLanes);
      } else {
        for (int r = 0; r < there; ++r) fill(r, n - 2 * step);
      }
      transpose(square);
      char* const to = static_cast<char*>(panel) + step * kPanelStepBytes + first * int64_t{sizeof(int32_t)};
      MOLT_UNROLL
      for (int i = 0; i < kLanes; ++i) {
        __builtin_memcpy(to + i * kPanelStepBytes, &square[i], sizeof(VecI));
        __builtin_prefetch(to + (kAhead + i) * kPanelStepBytes, 1, 3);
      }
    }
  }
}

void greatest_of_rows(const float* x, int64_t stride, int64_t rows, int64_t n, float* greatest) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* const row = x + r * stride;
    VecF most = broadcast(kLeast);
    for_vectors(n, [&](int64_t i, auto lanes) {
      const VecF v = at(row + i, lanes);
      const VecI is_there = lane_numbers() < static_cast<int>(lanes);
      most = max(most, is_there ? v : broadcast(kLeast));
    });
    greatest[r] = greatest_lane(most);
  }
}

uint64_t at_least(const float* x, int64_t n, float least) {
  uint64_t bits = 0;
  for_vectors(n, [&](int64_t i, auto lanes) {
    const VecI is_there = lane_numbers() < static_cast<int>(lanes);
    bits |= bits_of_lanes((at(x + i, lanes) >= broadcast(least)) & is_there) << i;
  });
  return bits;
}

}  // namespace molt::MOLT_ISA
