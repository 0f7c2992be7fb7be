#include "model/fingerprint.h"

#include <algorithm>
#include <span>

#include "base/fail.h"
#include "base/fnv1a.h"

namespace molt {
namespace {

constexpr std::int64_t kSample = 64;   // bytes
constexpr std::int64_t kSamples = 64;  // a tensor

}  // namespace

std::string fingerprint(const ModelConfig& config, const WeightSource& source) {
  Fnv1a hash;
  hash.add(fmt::format("{} {} {} {} {} {}", config.architecture, config.d_model, config.n_layer, config.vocab_size,
                       config.norm_eps, config.tie_embeddings));
  if (!config.details.empty()) hash.add(config.details);
  for (const std::string& name : source.names()) {
    const Tensor tensor = source.stored(name);
    hash.add(fmt::format("{} {} {}", name, name_of(tensor.dtype()), to_string(tensor.shape())));
    const std::int64_t bytes = tensor.bytes();
    const std::int64_t step = std::max(kSample, bytes / kSamples);
    for (std::int64_t at = 0; at < bytes; at += step)
      hash.add(std::span(tensor.data() + at, static_cast<std::size_t>(std::min(kSample, bytes - at))));
    source.drop_pages();  // the system reads a good deal around each sample
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace molt
