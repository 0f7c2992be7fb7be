#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// kWidth vectors of channels from channel c on, four taps: taps and the last three inputs stay in registers.
template <int kWidth, class Lanes>
inline void convolve_4(const ConvSequence& s, int64_t c, Lanes lanes) {
  Block<kWidth> tap[4], past[3];
  MOLT_UNROLL
  for (int k = 0; k < 4; ++k) tap[k] = block_at<kWidth>(s.weight + k * s.weight_stride + c, lanes);
  MOLT_UNROLL
  for (int k = 0; k < 3; ++k) past[k] = block_at<kWidth>(s.state + k * s.state_stride + c, lanes);
  const auto bias = s.bias == nullptr ? Block<kWidth>::fill(0) : block_at<kWidth>(s.bias + c, lanes);
  constexpr int64_t kAhead = 12;  // rows; the stride is too long for the processor's own prefetching
  const float* x = s.x + c;
  float* y = s.y + c;
  for (int64_t t = 0; t < s.rows; ++t, x += s.x_stride, y += s.y_stride) {
    if (t + kAhead < s.rows) {
      for (int v = 0; v < kWidth * kLanes; v += 16) __builtin_prefetch(x + kAhead * s.x_stride + v);
    }
    const Block<kWidth> now = block_at<kWidth>(x, lanes);
    const Block<kWidth> early = past[1] * tap[1] + (past[0] * tap[0] + bias);
    put(y, silu(early + (past[2] * tap[2] + now * tap[3])), lanes);
    past[0] = past[1];
    past[1] = past[2];
    past[2] = now;
  }
  for (int k = 0; k < 3; ++k) put(s.state + k * s.state_stride + c, past[k], lanes);
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
    put(s.y + t * s.y_stride + c, silu(Block<1>{{sum}}), lanes);
  }
  // Oldest first, so that a row of the state is read before it is overwritten.
  for (int64_t i = 0; i < past; ++i) put(s.state + i * s.state_stride + c, input(s.rows - past + i), lanes);
}

}  // namespace

void causal_conv(const ConvSequence& s) {
  if (s.rows == 0) return;
  int64_t c = 0;
  if (s.taps == 4) {
    for (; c + 2 * kLanes <= s.channels; c += 2 * kLanes) convolve_4<2>(s, c, Whole{});
    for (; c + kLanes <= s.channels; c += kLanes) convolve_4<1>(s, c, Whole{});
    if (c < s.channels) convolve_4<1>(s, c, static_cast<int>(s.channels - c));
  } else {
    for_vectors(s.channels, [&](int64_t first, auto lanes) { convolve(s, first, lanes); });
  }
}

}  // namespace molt::MOLT_ISA
