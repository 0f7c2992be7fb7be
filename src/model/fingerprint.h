// fingerprint(): a short name for a model's configuration and weights.
#pragma once

#include <string>

#include "model/architecture.h"

namespace molt {

/// 16 hexadecimal digits: FNV-1a over the configuration, every tensor's name, dtype and shape, and up to 4 KB sampled
/// evenly from each. Quick even for files of many gigabytes, and different for any two models met in practice; no
/// defence against somebody who means to deceive.
std::string fingerprint(const ModelConfig& config, const WeightSource& source);

}  // namespace molt
