// The selective scan in two loop orders. Long sequences: a vector of channels at a time through all rows, so that its
// states never leave the registers (AVX-512) or the first-level cache. Short ones, as in decoding: a row at a time, so
// that the states are streamed once, in the order in which they lie.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/stored_state.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// States that are updated side by side.
constexpr int kGroup = 4;

/// Rows to fetch ahead: one row outlasts the processor's window, and rows are too far apart for its own prefetching.
constexpr int64_t kAhead = 4;

inline bool is_wanted(const ScanSequence& s, int64_t t) {
  return s.wanted == nullptr || s.wanted[t] != 0;
}

inline void prefetch_row(const ScanSequence& s, int64_t c, int64_t t) {
  __builtin_prefetch(s.dt + t * s.dt_stride + c);
  __builtin_prefetch(s.x + t * s.x_stride + c);
  if (is_wanted(s, t)) __builtin_prefetch(s.y + t * s.y_stride + c, 1);
}

/// What all states of one row of one vector of channels share.
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
    if (t + kAhead < s.rows) prefetch_row(s, c, t + kAhead);
    const RowInputs row = row_inputs(s, c, t, D, lanes);
    const float* B = s.B + t * s.B_stride;
    const float* C = s.C + t * s.C_stride;
    MOLT_UNROLL
    for (int n = 0; n < kStates; n += kGroup) {
      const auto decay = exp2_decay(Block<kGroup>::map([&](int i) { return row.decay_step * A[n + i]; }));
      MOLT_UNROLL
      for (int i = 0; i < kGroup; ++i) H[n + i] = decay.v[i] * H[n + i] + row.input * B[n + i];
    }
    if (!is_wanted(s, t)) continue;
    VecF sums[kGroup] = {row.skip};
    MOLT_UNROLL
    for (int n = 0; n < kStates; ++n) sums[n % kGroup] += H[n] * C[n];
    put(s.y + t * s.y_stride + c, (sums[0] + sums[1]) + (sums[2] + sums[3]), lanes);
  }
  MOLT_UNROLL
  for (int n = 0; n < kStates; ++n) put(s.state + n * s.state_stride + c, H[n], lanes);
}

/// Channels that scan_rows takes at a time: what it holds of them stays in the first-level cache.
constexpr int64_t kRowChannels = 512;

/// What all states of up to kRowChannels channels of one row share, and the sums over the states.
struct RowBlock {
  float decay_step[kRowChannels];
  float input[kRowChannels];
  float sum[kRowChannels];
  uint32_t draws[kRowChannels];  // of the columns of a state in bfloat16
};

/// Updates one state of kCount vectors of channels: `b` and `c` are the row's B and C for that state, `c` null if the
/// row's y is not wanted.
template <int kCount, class State, class Lanes>
[[gnu::always_inline]] inline void update_state(RowBlock& row, int64_t i, const float* A, float b, const float* c,
                                                const State& state, int64_t stride, Lanes lanes) {
  MOLT_UNROLL
  for (int v = 0; v < kCount; ++v) {  // the next state's
    state.fetch(stride + i + v * kLanes);
    __builtin_prefetch(A + stride + i + v * kLanes);
  }
  const auto decay = exp2_decay(block_at<kCount>(row.decay_step + i, Whole{}) * block_at<kCount>(A + i, lanes));
  const auto input = block_at<kCount>(row.input + i, Whole{}) * b;
  const auto H = decay * state_block<kCount>(state, i, lanes) + input;
  set_block(state, i, H, lanes);
  if (c != nullptr) put(row.sum + i, block_at<kCount>(row.sum + i, Whole{}) + H * *c, Whole{});
}

/// Row by row, any number of states. `channels` up to kRowChannels, from channel first on; `all_states` from channel 0
/// on.
template <class State>
void scan_rows(const ScanSequence& s, const State& all_states, int64_t first, int64_t channels) {
  RowBlock row;
  const State states = all_states.columns(first, channels, row.draws);
  for (int64_t t = 0; t < s.rows; ++t) {
    const bool wanted = is_wanted(s, t);
    for_vectors(channels, [&](int64_t i, auto lanes) {
      const VecF D = s.D == nullptr ? VecF{} : at(s.D + first + i, lanes);
      const RowInputs inputs = row_inputs(s, first + i, t, D, lanes);
      store(row.decay_step + i, inputs.decay_step);
      store(row.input + i, inputs.input);
      store(row.sum + i, inputs.skip);
    });
    for (int64_t n = 0; n < s.states; ++n) {
      const float b = s.B[t * s.B_stride + n];
      const float* c = wanted ? s.C + t * s.C_stride + n : nullptr;
      const float* A = s.A + n * s.A_stride + first;
      const State state = states.row(n, s.state_stride);
      for_blocks(channels, [&](int64_t i, auto count, auto lanes) {
        update_state<count.value>(row, i, A, b, c, state, s.state_stride, lanes);
      });
    }
    if (!wanted) continue;
    for_vectors(channels,
                [&](int64_t i, auto lanes) { put(s.y + t * s.y_stride + first + i, load(row.sum + i), lanes); });
  }
}

}  // namespace

void selective_scan(const ScanSequence& s) {
  constexpr int64_t kMaxShortRows = 3;
  if (s.states == 16 && s.rows > kMaxShortRows) {
    for_vectors(s.channels, [&](int64_t c, auto lanes) { scan_block<16>(s, c, lanes); });
    return;
  }
  for (int64_t c = 0; c < s.channels; c += kRowChannels) {
    const int64_t channels = s.channels - c < kRowChannels ? s.channels - c : kRowChannels;
    if (s.rounded.data != nullptr) {
      scan_rows(s, RoundedElements(s.rounded), c, channels);
    } else {
      scan_rows(s, FloatElements{s.state}, c, channels);
    }
  }
}

}  // namespace molt::MOLT_ISA
