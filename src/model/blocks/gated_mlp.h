// The gated MLP of transformers of the LLaMA family (SwiGLU, Shazeer 2020): down(silu(gate(x)) * up(x)).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

struct GatedMlpConfig {
  std::int64_t d_model = 0;
  std::int64_t d_inner = 0;
  bool bias = false;
};

/// Loads the block whose tensors are called `prefix` + "gate_proj.weight", up_proj, down_proj (Hugging Face names).
std::unique_ptr<Block> make_gated_mlp(const GatedMlpConfig& config, const std::string& prefix, WeightLoader& weights);

}  // namespace molt
