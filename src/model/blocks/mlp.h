// The plain MLP of transformers (Vaswani et al. 2017): down(relu(up(x))).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

struct MlpConfig {
  std::int64_t d_model = 0;
  std::int64_t d_inner = 0;
  bool bias = false;
};

/// Loads the block whose tensors are called `prefix` + "up_proj.weight", down_proj.
std::unique_ptr<Block> make_mlp(const MlpConfig& config, const std::string& prefix, WeightLoader& weights);

}  // namespace molt
