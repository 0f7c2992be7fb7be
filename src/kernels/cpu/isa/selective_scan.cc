// The selective scan, a vector of channels at a time: the time loop is innermost but for the states, so that a block's
// states never leave the registers (AVX-512) or the first-level cache.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// One row of one vector of channels: `row(n, decay_step, input)` updates state n and gives its C * H.
struct RowInputs {
  VecF decay_step;  // dt * m * log2(e): decays are 2^(decay_step * A)
  VecF input;       // dt * x
  VecF skip;        // D * x
};

template <class Lanes>
inline RowInputs row_inputs(const ScanSequence& s, int64_t c, int64_t t, VecF D, Lanes lanes) {
  const VecF dt = at(s.dt + t * s.dt_stride + c, lanes);
  const VecF x = at(s.x + t * s.x_stride + c, lanes);
  return {dt * ((s.m == nullptr ? 1.0F : s.m[t]) * kLog2E), dt * x, D * x};
}

template <int kStates, class Lanes>
inline void scan_block(const ScanSequence& s, int64_t c, Lanes lanes) {
  VecF H[kStates], A[kStates];
  MOLT_UNROLL
  for (int n = 0; n < kStates; ++n) {
    H[n] = at(s.state + n * s.state_stride + c, lanes);
    A[n] = at(s.A + n * s.A_stride + c, lanes);
  }
  const VecF D = s.D == nullptr ? VecF{} : at(s.D + c, lanes);
  for (int64_t t = 0; t < s.rows; ++t) {
    const RowInputs row = row_inputs(s, c, t, D, lanes);
    const float* B = s.B + t * s.B_stride;
    const float* C = s.C + t * s.C_stride;
    VecF sums[4] = {row.skip, VecF{}, VecF{}, VecF{}};
    MOLT_UNROLL
    for (int n = 0; n < kStates; ++n) {
      H[n] = exp2_decay(row.decay_step * A[n]) * H[n] + row.input * B[n];
      sums[n % 4] += H[n] * C[n];
    }
    put(s.y + t * s.y_stride + c, (sums[0] + sums[1]) + (sums[2] + sums[3]), lanes);
  }
  MOLT_UNROLL
  for (int n = 0; n < kStates; ++n) put(s.state + n * s.state_stride + c, H[n], lanes);
}

/// Any number of states, kept where they live.
template <class Lanes>
inline void scan_block_any(const ScanSequence& s, int64_t c, Lanes lanes) {
  const VecF D = s.D == nullptr ? VecF{} : at(s.D + c, lanes);
  for (int64_t t = 0; t < s.rows; ++t) {
    const RowInputs row = row_inputs(s, c, t, D, lanes);
    VecF sum = row.skip;
    for (int64_t n = 0; n < s.states; ++n) {
      float* state = s.state + n * s.state_stride + c;
      const VecF decay = exp2_decay(row.decay_step * at(s.A + n * s.A_stride + c, lanes));
      const VecF H = decay * at(state, lanes) + row.input * s.B[t * s.B_stride + n];
      sum += H * s.C[t * s.C_stride + n];
      put(state, H, lanes);
    }
    put(s.y + t * s.y_stride + c, sum, lanes);
  }
}

}  // namespace

void selective_scan(const ScanSequence& s) {
  if (s.states == 16) {
    for_vectors(s.channels, [&](int64_t c, auto lanes) { scan_block<16>(s, c, lanes); });
  } else {
    for_vectors(s.channels, [&](int64_t c, auto lanes) { scan_block_any(s, c, lanes); });
  }
}

}  // namespace molt::MOLT_ISA
