// The Mamba-1 block (Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", figure 3).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

struct MambaBlockConfig {
  std::int64_t d_model = 0;
  std::int64_t d_inner = 0;
  std::int64_t d_state = 16;
  std::int64_t d_conv = 4;
  std::int64_t dt_rank = 0;
  bool bias = false;  // of in_proj and out_proj
  bool conv_bias = true;
  bool norm_bcdt = false;  // Falcon-Mamba: weightless RMS norms on dt, B and C before they are used
  float bcdt_norm_eps = 1e-6F;
};

/// Loads the block whose tensors are called `prefix` + "in_proj.weight", ... (Hugging Face names).
std::unique_ptr<Block> make_mamba_block(const MambaBlockConfig& config, const std::string& prefix,
                                        WeightLoader& weights);

}  // namespace molt
