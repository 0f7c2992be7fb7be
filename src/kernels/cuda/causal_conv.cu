// The short convolution: a thread takes a channel and some rows of a sequence. Short sequences' states move on in the
// same launch, those of long ones in a second one, when nobody reads them any more.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sequences.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kStrip = 16;  // rows a thread

struct Conv {
  Rows<const float> x;
  const float* weight;  // [K, C], rows w_stride apart
  std::int64_t w_stride;
  const float* bias;
  Rows<float> y;
  int taps;
  int channels;

  /// Input t of channel c, counted from the sequence's first row; those before it lie in the state.
  __device__ float input(const float* state, int first, int t, int c) const {
    return t >= 0 ? x.row(first + t)[c] : state[(t + taps - 1) * channels + c];
  }

  __device__ void move_state(float* state, int first, int length, int c) const {
    for (int j = 0; j < taps - 1; ++j) state[j * channels + c] = input(state, first, length - (taps - 1) + j, c);
  }
};

/// kTaps: their number, or 0 for any.
template <int kTaps>
__global__ void __launch_bounds__(kThreads)
    conv_kernel(const __grid_constant__ SequenceTable table, Conv conv, bool moves_states) {
  begin();
  const int c = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int s = static_cast<int>(blockIdx.y);
  const int begin = static_cast<int>(blockIdx.z) * kStrip;
  const int length = table.length(s);
  if (c >= conv.channels || begin >= length) return;
  const int first = table.offsets[s];
  const int end = min(begin + kStrip, length);
  auto* const state = static_cast<float*>(table.states[s]);
  const float bias = conv.bias == nullptr ? 0.0F : conv.bias[c];
  if constexpr (kTaps > 0) {
    float weights[kTaps], window[kTaps];
#pragma unroll
    for (int k = 0; k < kTaps; ++k) {
      weights[k] = conv.weight[k * conv.w_stride + c];
      if (k > 0) window[k] = conv.input(state, first, begin - kTaps + k, c);
    }
#pragma unroll 4
    for (int t = begin; t < end; ++t) {
#pragma unroll
      for (int k = 0; k + 1 < kTaps; ++k) window[k] = window[k + 1];
      window[kTaps - 1] = conv.x.row(first + t)[c];
      float sum = bias;
#pragma unroll
      for (int k = 0; k < kTaps; ++k) sum += weights[k] * window[k];
      conv.y.row(first + t)[c] = silu(sum);
    }
  } else {
    for (int t = begin; t < end; ++t) {
      float sum = bias;
      for (int k = 0; k < conv.taps; ++k) {
        sum += conv.weight[k * conv.w_stride + c] * conv.input(state, first, t - (conv.taps - 1) + k, c);
      }
      conv.y.row(first + t)[c] = silu(sum);
    }
  }
  if (moves_states) conv.move_state(state, first, length, c);
}

__device__ inline float4 times_plus(float4 a, float4 b, float4 sum) {
  return {a.x * b.x + sum.x, a.y * b.y + sum.y, a.z * b.z + sum.z, a.w * b.w + sum.w};
}

/// The same of four channels a thread, for aligned rows.
template <int kTaps>
__global__ void __launch_bounds__(kThreads)
    conv_in_fours(const __grid_constant__ SequenceTable table, Conv conv, bool moves_states) {
  begin();
  const int c = (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) * 4;
  const int s = static_cast<int>(blockIdx.y);
  const int begin = static_cast<int>(blockIdx.z) * kStrip;
  const int length = table.length(s);
  if (c >= conv.channels || begin >= length) return;
  const int first = table.offsets[s];
  const int end = min(begin + kStrip, length);
  auto* const state = static_cast<float*>(table.states[s]);
  const auto four = [](const float* from) { return *reinterpret_cast<const float4*>(from); };
  float4 bias{0, 0, 0, 0};
  if (conv.bias != nullptr) bias = four(conv.bias + c);
  float4 weights[kTaps], window[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    weights[k] = four(conv.weight + k * conv.w_stride + c);
    if (k == 0) continue;
    const int t = begin - kTaps + k;
    window[k] = four(t >= 0 ? conv.x.row(first + t) + c : state + (t + kTaps - 1) * conv.channels + c);
  }
#pragma unroll 4
  for (int t = begin; t < end; ++t) {
#pragma unroll
    for (int k = 0; k + 1 < kTaps; ++k) window[k] = window[k + 1];
    window[kTaps - 1] = four(conv.x.row(first + t) + c);
    float4 sum = bias;
#pragma unroll
    for (int k = 0; k < kTaps; ++k) sum = times_plus(weights[k], window[k], sum);
    *reinterpret_cast<float4*>(conv.y.row(first + t) + c) = {silu(sum.x), silu(sum.y), silu(sum.z), silu(sum.w)};
  }
  if (!moves_states) return;
  for (int i = 0; i < 4; ++i) conv.move_state(state, first, length, c + i);
}

__global__ void __launch_bounds__(kThreads) conv_states_kernel(const __grid_constant__ SequenceTable table, Conv conv) {
  begin();
  const int c = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int s = static_cast<int>(blockIdx.y);
  if (c >= conv.channels || table.length(s) == 0) return;
  conv.move_state(static_cast<float*>(table.states[s]), table.offsets[s], table.length(s), c);
}

}  // namespace
}  // namespace cuda

void CudaBackend::causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                              std::span<float* const> states, Matrix<float> y) const {
  shapes::check_causal_conv(x, weight, offsets, states, y);
  if (x.cols == 0) return;
  const cuda::Conv conv{
      x, weight.data, weight.stride, bias, y, static_cast<int>(weight.rows), static_cast<int>(x.cols)};
  const cuda::Context& context = cuda::Context::get();
  const auto state = [&](std::size_t s, cuda::SequenceTable& table, int slot) { table.states[slot] = states[s]; };
  bool fours =
      weight.rows == 4 && cuda::in_fours(x) && cuda::in_fours(y) && cuda::in_fours(weight) && cuda::is_aligned(bias);
  for (float* s : states) fours = fours && cuda::is_aligned(s);
  cuda::for_tables(offsets, state, [&](const cuda::SequenceTable& table, int longest) {
    const bool one_strip = longest <= cuda::kStrip;
    const unsigned blocks = cuda::blocks_for(x.cols, cuda::kThreads);
    const dim3 grid(fours ? cuda::blocks_for(x.cols, 4 * cuda::kThreads) : blocks, static_cast<unsigned>(table.count),
                    cuda::blocks_for(longest, cuda::kStrip));
    const auto kernel = fours ? cuda::conv_in_fours<4> : weight.rows == 4 ? cuda::conv_kernel<4> : cuda::conv_kernel<0>;
    cuda::launch_early(context, "causal_conv", kernel, grid, cuda::kThreads, 0, table, conv, one_strip);
    if (!one_strip) {
      cuda::launch_early(context, "causal_conv", cuda::conv_states_kernel, dim3(blocks, grid.y), cuda::kThreads, 0,
                         table, conv);
    }
  });
}

}  // namespace molt
