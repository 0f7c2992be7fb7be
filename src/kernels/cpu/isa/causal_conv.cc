#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// kWidth vectors of channels from channel c on, four taps: taps and the last three inputs stay in registers.
template <int kWidth, class Lanes>
inline void convolve_4(const ConvSequence& s, int64_t c, Lanes lanes) {
  VecF tap[4][kWidth], past[3][kWidth], bias[kWidth];
  MOLT_UNROLL
  for (int v = 0; v < kWidth; ++v) {
    const int64_t channel = c + v * kLanes;
    for (int k = 0; k < 4; ++k) tap[k][v] = at(s.weight + k * s.weight_stride + channel, lanes);
    for (int k = 0; k < 3; ++k) past[k][v] = at(s.state + k * s.state_stride + channel, lanes);
    bias[v] = s.bias == nullptr ? VecF{} : at(s.bias + channel, lanes);
  }
  constexpr int64_t kAhead = 12;  // rows; the stride is too long for the processor's own prefetching
  const float* x = s.x + c;
  float* y = s.y + c;
  for (int64_t t = 0; t < s.rows; ++t, x += s.x_stride, y += s.y_stride) {
    if (t + kAhead < s.rows) {
      for (int v = 0; v < kWidth * kLanes; v += 16) __builtin_prefetch(x + kAhead * s.x_stride + v);
    }
    MOLT_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      const VecF now = at(x + v * kLanes, lanes);
      const VecF early = past[0][v] * tap[0][v] + bias[v];
      const VecF late = past[2][v] * tap[2][v] + now * tap[3][v];
      put(y + v * kLanes, silu(past[1][v] * tap[1][v] + early + late), lanes);
      past[0][v] = past[1][v];
      past[1][v] = past[2][v];
      past[2][v] = now;
    }
  }
  for (int v = 0; v < kWidth; ++v) {
    for (int k = 0; k < 3; ++k) put(s.state + k * s.state_stride + c + v * kLanes, past[k][v], lanes);
  }
}

/// One vector of channels, any number of taps.
template <class Lanes>
inline void convolve(const ConvSequence& s, int64_t c, Lanes lanes) {
  const int64_t past = s.taps - 1;
  const auto input = [&](int64_t t) {
    return t < 0 ? at(s.state + (past + t) * s.state_stride + c, lanes) : at(s.x + t * s.x_stride + c, lanes);
  };
  for (int64_t t = 0; t < s.rows; ++t) {
    VecF sum = s.bias == nullptr ? VecF{} : at(s.bias + c, lanes);
    for (int64_t k = 0; k < s.taps; ++k) sum += at(s.weight + k * s.weight_stride + c, lanes) * input(t - past + k);
    put(s.y + t * s.y_stride + c, silu(sum), lanes);
  }
  // Oldest first, so that a row of the state is read before it is overwritten.
  for (int64_t i = 0; i < past; ++i) put(s.state + i * s.state_stride + c, input(s.rows - past + i), lanes);
}

}  // namespace

void causal_conv(const ConvSequence& s) {
  if (s.rows == 0) return;
  constexpr Whole<kLanes> whole;
  int64_t c = 0;
  if (s.taps == 4) {
    for (; c + 2 * kLanes <= s.channels; c += 2 * kLanes) convolve_4<2>(s, c, whole);
    for (; c + kLanes <= s.channels; c += kLanes) convolve_4<1>(s, c, whole);
    if (c < s.channels) convolve_4<1>(s, c, static_cast<int>(s.channels - c));
  } else {
    for_vectors(s.channels, [&](int64_t first, auto lanes) { convolve(s, first, lanes); });
  }
}

}  // namespace molt::MOLT_ISA
