// What Mamba-1 and Mamba-2 blocks load alike: the short convolution and the transition A.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

/// The depthwise causal convolution over `channels` channels.
struct ShortConv {
  Tensor weight;  // [K, C], taps major
  Tensor bias;    // [C], or empty

  ShortConv(WeightLoader& weights, const std::string& name, std::int64_t channels, std::int64_t taps, bool has_bias) {
    const Tensor stored = weights.vector(name + ".weight", {channels, 1, taps});
    const Tensor turned = Tensor::zeros(DType::f32, {taps, channels});
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t k = 0; k < taps; ++k) turned.as<float>()[k * channels + c] = stored.as<float>()[c * taps + k];
    }
    weight = weights.place(turned);
    if (has_bias) bias = weights.placed_vector(name + ".bias", {channels});
  }

  StatePart state_part() const { return {"conv", {weight.shape()[0] - 1, weight.shape()[1]}}; }

  const float* bias_or_null() const { return bias.empty() ? nullptr : bias.as<float>(); }
};

/// The transition A, on the host: `prefix` + "A" where the source holds that, elsewhere -exp(`prefix` + "A_log").
inline Tensor load_transition(WeightLoader& weights, const std::string& prefix, const Shape& shape) {
  if (weights.has(prefix + "A")) return weights.vector(prefix + "A", shape);
  Tensor a_log = weights.vector(prefix + "A_log", shape);
  auto* a = a_log.as<float>();
  for (std::int64_t i = 0; i < a_log.size(); ++i) a[i] = -std::exp(a[i]);
  return a_log;
}

}  // namespace molt
