// What products of a step do beside the product: where their results go, and what can be done on the way.
#pragma once

#include "kernels/cuda/device.cuh"

namespace molt::cuda {

/// y = product (* a scale a row) (+ bias) (+ y).
struct StepOutput {
  const float* bias = nullptr;
  Rows<float> y;
  int outputs;
  bool adds = false;
  // The scale is that of a norm: [rows, parts], sums of squares of parts of a row of `columns`. Null for none.
  const float* squares = nullptr;
  int parts = 0;
  float columns = 1, eps = 0;

  /// Of a row, for a warp.
  __device__ float scale(int t) const {
    constexpr int kAtOnce = 8;  // asked for together
    float sum = 0;
    for (int first = static_cast<int>(threadIdx.x) % 32; first < parts; first += 32 * kAtOnce) {
      float some[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) some[k] = first + 32 * k < parts ? squares[t * parts + first + 32 * k] : 0.0F;
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) sum += some[k];
    }
    return 1.0F / sqrtf(warp_sum(sum) / columns + eps);
  }

  /// What is added to the scaled product.
  __device__ float before(int t, int n) const {
    return (bias == nullptr ? 0.0F : bias[n]) + (adds ? y.row(t)[n] : 0.0F);
  }

  __device__ void put(int t, int n, float product, float scale) const {
    y.row(t)[n] = product * scale + before(t, n);
  }
};

/// The states of convolutions of four taps, [3, channels] each, of channels from `first` on, moved on by one row:
/// inputs x [count, channels].
struct StateShift {
  static constexpr int kMost = 16;

  static constexpr int kTaps = 4;

  int count = 0;
  int first = 0, channels = 0;
  Rows<const float> x{nullptr, 0};
  float* states[kMost] = {};

  /// For `threads` threads of each of a kernel's blocks, of which this is the thread-th, when nobody reads the states
  /// any more.
  __device__ void run(unsigned thread, unsigned threads) const {
    const int all = static_cast<int>(gridDim.x * threads), own = channels - first;
    for (int i = static_cast<int>(blockIdx.x * threads + thread); i < count * own; i += all) {
      const int s = i / own, c = first + i - s * own;
      float* const state = states[s] + c;
      float later[kTaps - 1];
#pragma unroll
      for (int k = 0; k + 2 < kTaps; ++k) later[k] = state[(k + 1) * channels];
      later[kTaps - 2] = x.row(s)[c];
#pragma unroll
      for (int k = 0; k + 1 < kTaps; ++k) state[k * channels] = later[k];
    }
  }
};

}  // namespace molt::cuda
