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
    float sum = 0;
    for (int i = static_cast<int>(threadIdx.x) % 32; i < parts; i += 32) sum += squares[t * parts + i];
    return 1.0F / sqrtf(warp_sum(sum) / columns + eps);
  }

  __device__ void put(int t, int n, float product, float scale) const {
    float* const to = y.row(t) + n;
    const float value = product * scale + (bias == nullptr ? 0.0F : bias[n]);
    *to = adds ? *to + value : value;
  }
};

/// The states of convolutions, [taps - 1, channels] each, moved on by one row: inputs x [count, channels].
struct StateShift {
  static constexpr int kMost = 16;

  int count = 0;
  int channels = 0, taps = 0;
  Rows<const float> x{nullptr, 0};
  float* states[kMost] = {};

  /// For all blocks of a kernel together, when nobody reads the states any more.
  __device__ void run() const {
    const int threads = static_cast<int>(gridDim.x * blockDim.x);
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < count * channels; i += threads) {
      const int s = i / channels, c = i - s * channels;
      float* const state = states[s] + c;
      for (int k = 0; k + 2 < taps; ++k) state[k * channels] = state[(k + 1) * channels];
      if (taps > 1) state[(taps - 2) * channels] = x.row(s)[c];
    }
  }
};

}  // namespace molt::cuda
