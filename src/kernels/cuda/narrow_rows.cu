#include "kernels/cuda/narrow_rows.h"

#include "kernels/cuda/copies.cuh"

namespace molt::cuda {
namespace {

using Narrow = __nv_bfloat16;
constexpr int kThreads = 256;
constexpr int kEach = 8;  // elements of 16 bytes

__device__ inline void load(const Narrow* from, float (&v)[kEach]) {
  const uint4 unit = *reinterpret_cast<const uint4*>(from);
  const unsigned words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
}
__device__ inline void load(const float* from, float (&v)[kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
  }
}
__device__ inline void store(Narrow* to, const float (&v)[kEach]) {
  __nv_bfloat162 pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pairs);
}
__device__ inline void store(float* to, const float (&v)[kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; i += 4) *reinterpret_cast<float4*>(to + i) = {v[i], v[i + 1], v[i + 2], v[i + 3]};
}

constexpr int kKept = static_cast<int>(kMostNormColumns) / (kEach * kThreads);  // units that a thread keeps

/// body(unit of this thread's, first column) for the units of a row.
template <class Body>
__device__ inline void for_units(int cols, Body body) {
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int column = (static_cast<int>(threadIdx.x) + k * kThreads) * kEach;
    if (column < cols) body(k, column);
  }
}

constexpr unsigned kMostEarlyRows = 64;

template <bool kAdd>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(Rows<float> residual, Rows<const float> h, const float* weight, float eps, int cols, Rows<Narrow> y) {
  __shared__ float room[32];
  let_next_start();
  // The next kernel may fetch its weights before this one's work begins: those of the norm are to come first.
  if (gridDim.x <= kMostEarlyRows) {
    for (int i = static_cast<int>(threadIdx.x) * 32; i < cols; i += 32 * kThreads) {
      prefetch_line(weight + i);
    }
  }
  wait_for_previous();
  float* const from = residual.row(blockIdx.x);
  float kept[kKept][kEach];
  float squares = 0;
  for_units(cols, [&](int k, int column) {
    load(from + column, kept[k]);
    if constexpr (kAdd) {
      float added[kEach];
      load(h.row(blockIdx.x) + column, added);
#pragma unroll
      for (int i = 0; i < kEach; ++i) kept[k][i] += added[i];
      store(from + column, kept[k]);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) squares += kept[k][i] * kept[k][i];
  });
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(cols) + eps);
  for_units(cols, [&](int k, int column) {
    float w[kEach];
    load(weight + column, w);
#pragma unroll
    for (int i = 0; i < kEach; ++i) kept[k][i] *= scale * w[i];
    store(y.row(blockIdx.x) + column, kept[k]);
  });
}

__global__ void __launch_bounds__(kThreads)
    gated_kernel(Rows<Narrow> y, Rows<const Narrow> z, const float* weight, float eps, int group, bool norm_before_gate,
                 Rows<float> before) {
  __shared__ float room[32];
  begin();
  const int first = static_cast<int>(blockIdx.y) * group;
  Narrow* const own = y.row(blockIdx.x) + first;
  const Narrow* const gate = z.row(blockIdx.x) + first;
  float kept[kKept][kEach];
  float squares = 0;
  for_units(group, [&](int k, int column) {
    float g[kEach];
    load(own + column, kept[k]);
    load(gate + column, g);
    if (before.data != nullptr) store(before.row(blockIdx.x) + first + column, kept[k]);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float gated = kept[k][i] * silu(g[i]);
      const float normed = norm_before_gate ? kept[k][i] : gated;
      squares += normed * normed;
      kept[k][i] = gated;
    }
  });
  const float scale = 1.0F / sqrtf(block_sum(squares, room) / static_cast<float>(group) + eps);
  for_units(group, [&](int k, int column) {
    float w[kEach];
    load(weight + first + column, w);
#pragma unroll
    for (int i = 0; i < kEach; ++i) kept[k][i] *= scale * w[i];
    store(own + column, kept[k]);
  });
}

constexpr int kTaps = 4;
constexpr int kStrip = 32;  // rows a thread
constexpr int kConvThreads = 128;

struct Conv {
  Rows<const Narrow> x;
  const float* weight;  // [kTaps, C], rows w_stride apart
  std::int64_t w_stride;
  const float* bias;  // or null
  Rows<Narrow> y;
  int channels;

  /// Inputs t of eight channels, counted from the sequence's first row; those before it lie in the state.
  __device__ void input(const float* state, int first, int t, int c, float (&v)[kEach]) const {
    if (t >= 0) {
      load(x.row(first + t) + c, v);
    } else {
      load(state + (t + kTaps - 1) * static_cast<std::int64_t>(channels) + c, v);
    }
  }
};

/// A thread takes eight channels of a strip of rows.
__global__ void __launch_bounds__(kConvThreads)
    conv_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Conv conv) {
  begin();
  const int c = (static_cast<int>(blockIdx.x) * kConvThreads + static_cast<int>(threadIdx.x)) * kEach;
  const int s = static_cast<int>(blockIdx.y), length = table.length(s);
  const int begin = static_cast<int>(blockIdx.z) * kStrip, end = min(begin + kStrip, length);
  if (c >= conv.channels || begin >= length) return;
  const int first = table.offsets[s];
  const auto* const state = static_cast<const float*>(table.states[s]);
  float bias[kEach] = {}, weights[kTaps][kEach], window[kTaps][kEach];
  if (conv.bias != nullptr) load(conv.bias + c, bias);
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    load(conv.weight + k * conv.w_stride + c, weights[k]);
    if (k > 0) conv.input(state, first, begin - kTaps + k, c, window[k]);
  }
#pragma unroll 4
  for (int t = begin; t < end; ++t) {
    float sum[kEach];
#pragma unroll
    for (int k = 0; k + 1 < kTaps; ++k) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) window[k][i] = window[k + 1][i];
    }
    load(conv.x.row(first + t) + c, window[kTaps - 1]);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      sum[i] = bias[i];
#pragma unroll
      for (int k = 0; k < kTaps; ++k) sum[i] += weights[k][i] * window[k][i];
      sum[i] = silu(sum[i]);
    }
    store(conv.y.row(first + t) + c, sum);
  }
}

/// When nobody reads the states any more.
__global__ void __launch_bounds__(kConvThreads)
    conv_states_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Conv conv) {
  begin();
  const int c = (static_cast<int>(blockIdx.x) * kConvThreads + static_cast<int>(threadIdx.x)) * kEach;
  const int s = static_cast<int>(blockIdx.y), length = table.length(s);
  if (c >= conv.channels || length == 0) return;
  auto* const state = static_cast<float*>(table.states[s]);
  for (int j = 0; j < kTaps - 1; ++j) {
    float v[kEach];
    conv.input(state, table.offsets[s], length - (kTaps - 1) + j, c, v);
    store(state + j * static_cast<std::int64_t>(conv.channels) + c, v);
  }
}

}  // namespace

void norm_stream(const Context& context, Matrix<float> residual, const Matrix<float>* h, const float* weight, float eps,
                 Rows<Narrow> y) {
  const auto kernel = h != nullptr ? norm_kernel<true> : norm_kernel<false>;
  launch_early(context, "norm of a layer", kernel, static_cast<unsigned>(residual.rows), kThreads, 0, residual,
               Rows<const float>(h != nullptr ? *h : residual), weight, eps, static_cast<int>(residual.cols), y);
}

void gated_norm(const Context& context, Rows<Narrow> y, Rows<const Narrow> z, std::int64_t rows, std::int64_t cols,
                const float* weight, float eps, std::int64_t group, bool norm_before_gate, Rows<float> before) {
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(cols / group));
  launch_early(context, "gated norm of a layer", gated_kernel, grid, kThreads, 0, y, z, weight, eps,
               static_cast<int>(group), norm_before_gate, before);
}

void conv(const Context& context, const SequenceTable& table, int longest, Rows<const Narrow> x,
          Matrix<const float> weight, const float* bias, Rows<Narrow> y) {
  const Conv conv{x, weight.data, weight.stride, bias, y, static_cast<int>(weight.cols)};
  const unsigned across = blocks_for(weight.cols, kConvThreads * kEach);
  const auto sequences = static_cast<unsigned>(table.count);
  launch_early(context, "convolution of a layer", conv_kernel, dim3(across, sequences, blocks_for(longest, kStrip)),
               kConvThreads, 0, table, conv);
  launch_early(context, "states of a convolution", conv_states_kernel, dim3(across, sequences), kConvThreads, 0, table,
               conv);
}

}  // namespace molt::cuda
