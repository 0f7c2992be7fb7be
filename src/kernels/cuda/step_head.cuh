// What a step of a Mamba-2 layer does between its products, for some channels of a head of a sequence: convolution,
// softplus, the scan's step and the gate, by a block. The convolution's states of B and C, which all heads read, move
// on behind it (StateShift).
#pragma once

#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {

constexpr int kStepTaps = 4;
constexpr int kMostStepStates = 128;

/// A layer's part in it.
struct StepLayer {
  Rows<const float> zxbcdt{nullptr, 0};
  const float* conv_weight;
  std::int64_t conv_stride;
  const float* conv_bias;  // or null
  const float* dt_bias;
  float dt_min, dt_max;
  const float* A;
  const float* D;
  const float* gate_norm;
  bool norm_before_gate;
  int heads, channels, states, groups;
  __nv_bfloat16* gated;  // [S, heads * channels], but for the norm's scale
  float* squares;        // [S, parts of 32 channels of a head]
  float* conv_states[kMostStepSequences];
  void* ssm_states[kMostStepSequences];  // float or bf16
  std::uint32_t keys[kMostStepSequences];
  const std::uint32_t* keys_there;  // instead of these, or null

  __host__ __device__ int inner() const { return heads * channels; }
  __host__ __device__ int parts() const { return heads * ((channels + 31) / 32); }
  __device__ int conv_channels() const { return inner() + 2 * groups * states; }
};

/// kColumns: channels a block of kThreads. T: of the state, float or __nv_bfloat16.
template <int kThreads, int kColumns, class T>
class StepHead {
 public:
  static constexpr int kEach = 16 / sizeof(T);           // channels of a state that a thread takes side by side
  static constexpr int kLanes = kColumns / kEach;        // threads side by side
  static constexpr int kParts = kThreads / kLanes;       // of the states
  static constexpr int kOwn = kMostStepStates / kParts;  // states a thread
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kItems = (kColumns + 2 * kMostStepStates + kThreads - 1) / kThreads;  // convolved

  struct Room {
    float sums[kWarps][kColumns];
    float x[kColumns], B[kMostStepStates], C[kMostStepStates];
  };

  /// What it reads beside zxbcdt, which nobody writes meanwhile.
  struct Ahead {
    uint4 state[kOwn];  // as it lies
    float conv_state[kItems][kStepTaps - 1], taps[kItems][kStepTaps], bias[kItems];
    float D, gate_norm, rate, dt_bias;
  };

  __device__ StepHead(const StepLayer& layer, int s, int h, int block, int thread)
      : layer_(layer), s_(s), h_(h), p0_(block * kColumns), thread_(thread) {
    const int group = h / (layer.heads / layer.groups);
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      const int i = thread + j * kThreads, n = i - kColumns;
      channel_[j] = -1;
      if (i < kColumns) {
        if (p0_ + i < layer.channels) channel_[j] = h * layer.channels + p0_ + i;
      } else if (n < 2 * layer.states) {
        const int part = n < layer.states ? 0 : 1;  // B or C
        channel_[j] = layer.inner() + (part * layer.groups + group) * layer.states + n - part * layer.states;
      }
    }
  }

  /// Brings the states into the cache.
  __device__ void prefetch_states() const {
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      if (channel_[j] < 0) continue;
#pragma unroll
      for (int k = 0; k + 1 < kStepTaps; ++k) prefetch_line(conv_state() + k * layer_.conv_channels() + channel_[j]);
    }
    constexpr int kLine = 128 / sizeof(T), kLines = kColumns > kLine ? kColumns / kLine : 1;
    for (int i = thread_; i < layer_.states * kLines; i += kThreads) {
      prefetch_line(state() + i / kLines * layer_.channels + p0_ + i % kLines * kLine);
    }
  }

  __device__ void fetch_states(Ahead& ahead) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (owns(i)) ahead.state[i] = __ldcs(reinterpret_cast<const uint4*>(state() + n(i) * layer_.channels + p()));
    }
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      if (channel_[j] < 0) continue;
      const float* const from = conv_state() + channel_[j];
#pragma unroll
      for (int k = 0; k + 1 < kStepTaps; ++k) ahead.conv_state[j][k] = from[k * layer_.conv_channels()];
    }
  }

  /// All but the states, which other kernels write.
  __device__ void fetch_constants(Ahead& ahead) const {
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      const int c = channel_[j];
      if (c < 0) continue;
      ahead.bias[j] = layer_.conv_bias == nullptr ? 0.0F : layer_.conv_bias[c];
#pragma unroll
      for (int k = 0; k < kStepTaps; ++k) ahead.taps[j][k] = layer_.conv_weight[k * layer_.conv_stride + c];
    }
    ahead.D = column() < 0 ? 0.0F : layer_.D[column()];
    ahead.gate_norm = column() < 0 ? 0.0F : layer_.gate_norm[column()];
    ahead.rate = layer_.A[h_] * 1.4426950408889634F;  // for powers of 2
    ahead.dt_bias = layer_.dt_bias[h_];
  }

  /// The step, when zxbcdt is there.
  __device__ void run(const Ahead& ahead, Room& room) const {
    const float* const row = layer_.zxbcdt.row(s_);
    const float z = column() < 0 ? 0.0F : row[column()];
    const float raw = row[layer_.inner() + layer_.conv_channels() + h_] + ahead.dt_bias;
    convolve(ahead, row + layer_.inner(), room);
    const float dt = fminf(layer_.dt_max, fmaxf(layer_.dt_min, softplus_of(raw)));
    __syncthreads();
    scan(ahead, dt, room);
    __syncthreads();
    if (thread_ < kColumns) write(ahead, z, room);
  }

 private:
  __device__ T* state() const {
    return static_cast<T*>(layer_.ssm_states[s_]) + static_cast<std::int64_t>(h_) * layer_.states * layer_.channels;
  }
  __device__ float* conv_state() const {
    return layer_.conv_states[s_];
  }
  /// The channels of the state that the thread takes, and its i-th row of it.
  __device__ int p() const {
    return p0_ + thread_ % kLanes * kEach;
  }
  __device__ int n(int i) const {
    return thread_ / kLanes + i * kParts;
  }
  __device__ bool owns(int i) const {
    return p() < layer_.channels && n(i) < layer_.states;
  }
  /// The column of y that it writes, or -1.
  __device__ int column() const {
    return thread_ < kColumns && p0_ + thread_ < layer_.channels ? h_ * layer_.channels + p0_ + thread_ : -1;
  }
  __device__ void convolve(const Ahead& ahead, const float* xbc, Room& room) const {
    float input[kItems];
#pragma unroll
    for (int j = 0; j < kItems; ++j) input[j] = channel_[j] < 0 ? 0.0F : xbc[channel_[j]];
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      if (channel_[j] < 0) continue;
      float sum = ahead.bias[j] + ahead.taps[j][kStepTaps - 1] * input[j];
#pragma unroll
      for (int k = 0; k + 1 < kStepTaps; ++k) sum += ahead.taps[j][k] * ahead.conv_state[j][k];
      const int i = thread_ + j * kThreads, n = i - kColumns;
      (i < kColumns ? room.x[i] : n < layer_.states ? room.B[n] : room.C[n - layer_.states]) = silu(sum);
      // Channels of x are this head's alone, and their states move on.
      if (i >= kColumns) continue;
      float* const to = conv_state() + channel_[j];
#pragma unroll
      for (int k = 0; k + 2 < kStepTaps; ++k) to[k * layer_.conv_channels()] = ahead.conv_state[j][k + 1];
      to[(kStepTaps - 2) * layer_.conv_channels()] = input[j];
    }
  }

  __device__ void scan(const Ahead& ahead, float dt, Room& room) const {
    const float decay = power_of_2(dt * ahead.rate);
    const StoredState<T> to{state(), layer_.keys_there != nullptr ? layer_.keys_there[s_] : layer_.keys[s_]};
    const auto columns = to.columns(static_cast<std::uint32_t>(h_ * layer_.channels + p()));
    float input[kEach], sums[kEach] = {};
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      input[k] = p() < layer_.channels ? dt * room.x[thread_ % kLanes * kEach + k] : 0.0F;
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!owns(i)) continue;
      float S[kEach];
      StoredState<T>::widen(ahead.state[i], S);
      const float b = room.B[n(i)], c = room.C[n(i)];
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        S[k] = decay * S[k] + b * input[k];
        sums[k] += c * S[k];
      }
      to.set_unit(n(i) * layer_.channels + p(), columns, static_cast<std::uint32_t>(n(i)), S);
    }
    // Over the parts of a warp; then the warps lay theirs side by side.
#pragma unroll
    for (int apart = kLanes; apart < 32; apart *= 2) {
#pragma unroll
      for (int k = 0; k < kEach; ++k) sums[k] += __shfl_xor_sync(kAllLanes, sums[k], apart);
    }
    if (thread_ % 32 >= kLanes) return;
#pragma unroll
    for (int k = 0; k < kEach; ++k) room.sums[thread_ / 32][thread_ % kLanes * kEach + k] = sums[k];
  }

  /// Threads of the first columns: y of a channel, gated, with the sum of the columns' squares for the norm.
  __device__ void write(const Ahead& ahead, float z, Room& room) const {
    float square = 0;
    if (column() >= 0) {
      float y = ahead.D * room.x[thread_];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) y += room.sums[w][thread_];
      const float gated = y * silu(z);
      square = layer_.norm_before_gate ? y * y : gated * gated;
      put_gated(gated * ahead.gate_norm);
    }
    const float sum = warp_sum(square);
    if (column() >= 0 && thread_ % 32 == 0) layer_.squares[part()] = sum;
  }

  __device__ void put_gated(float value) const {
    layer_.gated[static_cast<std::int64_t>(s_) * layer_.inner() + column()] = __float2bfloat16_rn(value);
  }
  /// Of the squares, of 32 channels each.
  __device__ int part() const {
    return s_ * layer_.parts() + h_ * ((layer_.channels + 31) / 32) + p0_ / 32 + thread_ / 32;
  }

  const StepLayer& layer_;
  const int s_, h_, p0_, thread_;
  int channel_[kItems];  // of x, B and C, that the thread convolves; or -1
};

}  // namespace molt::cuda
