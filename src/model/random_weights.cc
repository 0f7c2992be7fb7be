#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "base/parallel.h"
#include "base/random.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

constexpr std::int64_t kChunk = 1 << 16;  // elements that share one generator: many threads, the same numbers

/// softplus^-1 of a step between 1e-3 and 0.1, uniform in its logarithm: the initialisation of dt's bias.
double dt_bias(Random& random) {
  const double dt = std::exp(random.uniform(std::log(1e-3), std::log(1e-1)));
  return dt + std::log(-std::expm1(-dt));
}

using Distribution = double (*)(Random& random, std::int64_t index, std::int64_t last_extent);

Distribution distribution_of(std::string_view name) {
  if (name.ends_with("A_log")) {  // A = -(1..N) for each channel; for Mamba-2 one value a head
    return [](Random&, std::int64_t i, std::int64_t n) { return std::log(static_cast<double>(i % n % 16 + 1)); };
  }
  if (name.ends_with("dt_bias") || name.ends_with("dt_proj.bias")) {
    return [](Random& random, std::int64_t, std::int64_t) { return dt_bias(random); };
  }
  if (name.ends_with(".D") || name.ends_with("norm.weight") || name.ends_with("norm_f.weight")) {
    return [](Random&, std::int64_t, std::int64_t) { return 1.0; };
  }
  // A uniform number of variance 0.02^2: as good as a normal one for this purpose, and much cheaper by the billion.
  return [](Random& random, std::int64_t, std::int64_t) { return random.uniform(-0.0346, 0.0346); };
}

}  // namespace

std::optional<Tensor> RandomWeights::find(const std::string& name, const Shape& shape) const {
  Tensor tensor = Tensor::uninitialized(DType::bf16, shape);
  auto* out = tensor.as<BFloat16>();
  const Distribution distribution = distribution_of(name);
  const std::uint64_t seed = seed_ ^ std::hash<std::string>{}(name);
  const std::int64_t n = tensor.size();
  const std::int64_t last = shape.empty() ? 1 : shape.back();
  parallel_for((n + kChunk - 1) / kChunk, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      Random random(seed + static_cast<std::uint64_t>(chunk) * 0x9e3779b9U);
      for (std::int64_t i = chunk * kChunk; i < std::min(n, (chunk + 1) * kChunk); ++i) {
        out[i] = BFloat16::from_float(static_cast<float>(distribution(random, i, last)));
      }
    }
  });
  return tensor;
}

bool RandomWeights::has(const std::string& /*name*/) const {
  return false;
}

std::vector<std::string> RandomWeights::names() const {
  return {};
}

}  // namespace molt
