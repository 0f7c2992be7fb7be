// The decays within one chunk of the state space dual scan: what its heads' kernels have in common.
#pragma once

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {

/// 2^-kNoTrace times anything that the scan can hold is nothing. Bounds a step's exponent, so that one huge step does
/// not take away the digits of the sums after it.
inline constexpr double kNoTrace = 512.0;

/// The decays within one chunk.
struct Decays {
  float high[kSsdChunk];        // the sums s_i, as high + low
  float low[kSsdChunk];         //
  float dt[kSsdChunk];          //
  float from_start[kSsdChunk];  // 2^(s_i)
  float to_end[kSsdChunk];      // 2^(s_last - s_j) dt_j
  float whole;                  // 2^(s_last)
};

static inline void compute_decays(const SsdHead& head, Decays& d) {
  const int64_t rows = head.rows;
  double sums[kSsdChunk];
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const float dt = head.dt[i * head.dt_stride];
    const double m = head.m == nullptr ? 1.0 : static_cast<double>(head.m[i]);
    const double a = static_cast<double>(dt) * m * static_cast<double>(head.A) * 1.4426950408889634;
    sum += a < -kNoTrace ? -kNoTrace : a;
    sums[i] = sum;
    d.dt[i] = dt;
  }
  for (int64_t i = 0; i < kSsdChunk; ++i) {
    const double s = i < rows ? sums[i] : sum;
    d.high[i] = static_cast<float>(s);
    d.low[i] = static_cast<float>(s - static_cast<double>(d.high[i]));
    if (i >= rows) d.dt[i] = 0;
    d.from_start[i] = d.high[i];
    d.to_end[i] = static_cast<float>(sum - s);
  }
  for (int64_t i = 0; i < kSsdChunk; i += kLanes) {
    store(d.from_start + i, exp2_decay(load(d.from_start + i)));
    store(d.to_end + i, exp2_decay(load(d.to_end + i)) * load(d.dt + i));
  }
  d.whole = d.from_start[rows - 1];
}

/// 2^(s_i - s_j) gram[i, j] dt_j for a vector of columns from j on; zero for columns behind i. gram: [kSsdChunk,
/// kSsdChunk].
[[gnu::always_inline]] static inline VecF decayed(const Decays& d, const float* gram, int64_t i, int64_t j) {
  const VecF exponent = (d.high[i] - load(d.high + j)) + (d.low[i] - load(d.low + j));
  const VecF value = exp2_decay(min(exponent, VecF{})) * load(gram + i * kSsdChunk + j) * load(d.dt + j);
  const VecI past = lane_numbers() <= static_cast<int32_t>(i - j);
  return past ? value : VecF{};
}

}  // namespace molt::MOLT_ISA
