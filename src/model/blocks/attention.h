// The attention block of transformers of the LLaMA family (Touvron et al. 2023), and of hybrids: grouped queries with
// rotary positions, causal, its keys and values cached.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/weights.h"

namespace molt {

struct AttentionBlockConfig {
  std::int64_t d_model = 0;
  std::int64_t heads = 0;     // of queries
  std::int64_t kv_heads = 0;  // of keys and values; divides heads
  std::int64_t head_dim = 0;
  bool qkv_bias = false;
  bool out_bias = false;
  std::vector<double> frequencies;  // of rotary positions, radians a token; at most head_dim / 2, none: no positions
  bool interleaved = false;         // pairs are neighbours, as in GGUF files; otherwise half a head apart
};

/// Loads the block whose tensors are called `prefix` + "q_proj.weight", k_proj, v_proj, o_proj (Hugging Face names).
std::unique_ptr<Block> make_attention_block(const AttentionBlockConfig& config, const std::string& prefix,
                                            WeightLoader& weights);

}  // namespace molt
