// The Mamba-2 block (Dao & Gu 2024, "Transformers are SSMs", figure 6 and section 7).
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

struct Mamba2BlockConfig {
  std::int64_t d_model = 0;
  std::int64_t d_inner = 0;
  std::int64_t d_state = 128;
  std::int64_t d_conv = 4;
  std::int64_t heads = 0;   // of d_inner / heads channels each
  std::int64_t groups = 1;  // of heads that share B and C
  bool bias = false;        // of in_proj and out_proj
  bool conv_bias = true;
  bool gated_norm = true;  // RMS norm at the gate; otherwise the gate alone
  bool norm_before_gate = false;
  std::int64_t norm_group = 0;  // channels that are normed together: d_inner, or d_inner / groups
  bool D_per_channel = false;
  float norm_eps = 1e-5F;
  float dt_min = 0.0F;  // limits of dt after softplus
  float dt_max = std::numeric_limits<float>::infinity();
};

/// Loads the block whose tensors are called `prefix` + "in_proj.weight", ... (Hugging Face names).
std::unique_ptr<Block> make_mamba2_block(const Mamba2BlockConfig& config, const std::string& prefix,
                                         WeightLoader& weights);

}  // namespace molt
