// What models of the LLaMA family share, whatever file they come from: a layer is two blocks, attention and MLP, each
// with its norm and its place in the residual stream.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "model/architecture.h"
#include "model/blocks/attention.h"
#include "model/blocks/gated_mlp.h"

namespace molt {

/// Blocks of a layer: block 2i is the attention of layer i, block 2i + 1 its MLP.
inline constexpr std::int64_t kLlamaBlocks = 2;

/// How a file calls the parts of a layer; each ends in a dot but for the norms.
struct LlamaNames {
  std::string embedding, final_norm, head;  // with ".weight"
  std::string layer;                        // before the layer's number and a dot
  std::string attention_norm, mlp_norm;     // without ".weight"
  /// From a Hugging Face name of a matrix ("q_proj", "gate_proj") to what follows the layer's number and a dot.
  std::string (*matrix)(std::string_view name);
};

/// From canonical names (backbone.layers.3.mixer.gate_proj.weight) to a file's.
std::string llama_name(const LlamaNames& names, const std::string& canonical);

/// Makes block `index` of a model whose blocks are all alike.
std::unique_ptr<Block> make_llama_block(const AttentionBlockConfig& attention, const GatedMlpConfig& mlp,
                                        std::int64_t index, WeightLoader& weights);

/// Throws Error, naming `where`, unless the numbers of heads and channels go together.
void check_heads(const AttentionBlockConfig& attention, const std::string& where);

/// What ModelConfig::details says of attention.
std::string llama_details(const AttentionBlockConfig& attention);

}  // namespace molt
