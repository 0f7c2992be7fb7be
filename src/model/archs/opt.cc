// Hugging Face `model_type: opt` (OPTForCausalLM, Zhang et al. 2022): a layer is attention and MLP, as of LLaMA models,
// but with learned positions, layer norms, biases and ReLU.
//
// OPT-350m, the one published model whose norms come behind the blocks and whose embedding is narrower than the stream,
// is not run.
#include <algorithm>

#include "base/registry.h"
#include "model/archs/config_reading.h"
#include "model/archs/llama.h"
#include "model/blocks/mlp.h"
#include "model/norm.h"

namespace molt {
namespace {

/// Rows of the table of positions that no token has: the padding's, in the code that the models were trained with.
constexpr std::int64_t kPositionOffset = 2;

std::string matrix_name(std::string_view name) {
  if (name == "up_proj") return "fc1";
  if (name == "down_proj") return "fc2";
  return fmt::format("self_attn.{}", name == "o_proj" ? "out_proj" : name);
}

std::string file_name(const std::string& canonical) {
  static const LlamaNames names{.embedding = "model.decoder.embed_tokens.weight",
                                .final_norm = "model.decoder.final_layer_norm.weight",
                                .head = "lm_head.weight",
                                .layer = "model.decoder.layers.",
                                .attention_norm = "self_attn_layer_norm",
                                .mlp_norm = "final_layer_norm",
                                .matrix = &matrix_name};
  if (canonical == kPositions) return "model.decoder.embed_positions.weight";
  if (canonical == std::string(kFinalNorm) + ".bias") return "model.decoder.final_layer_norm.bias";
  return llama_name(names, canonical);
}

bool matches(const Json& json) {
  return has_model_type(json, "opt");
}

/// What the models that molt runs have in common.
void check_variant(const Json& json, const std::string& where, std::int64_t d_model) {
  const std::string activation = get_string(json, "activation_function", "relu", where);
  if (activation != "relu") {
    fail("{}: activation_function is \"{}\"; molt runs OPT models with relu", where, activation);
  }
  const std::int64_t embedding = get_int(json, "word_embed_proj_dim", d_model, where, kWidths);
  if (embedding != d_model) {
    fail(
        "{}: word_embed_proj_dim is {}, hidden_size {}; molt runs OPT models in which they are equal (all published "
        "ones but opt-350m)",
        where, embedding, d_model);
  }
  const auto expect = [&](const char* key, bool value) {
    if (get_bool(json, key, value, where) != value) {
      fail("{}: {} is {}; molt runs OPT models in which it is {}", where, key, !value, value);
    }
  };
  expect("do_layer_norm_before", true);
  expect("_remove_final_layer_norm", false);
  expect("layer_norm_elementwise_affine", true);
  expect("enable_bias", true);
}

ModelConfig read_model(const Json& json, const std::string& where) {
  ModelConfig config;
  config.d_model = get_int(json, "hidden_size", required, where, kWidths);
  config.n_layer = kLlamaBlocks * get_int(json, "num_hidden_layers", required, where, {1, kLayers.high / kLlamaBlocks});
  config.vocab_size = get_int(json, "vocab_size", required, where, kVocabulary);
  config.n_tokens = config.vocab_size;
  config.layer_norm = true;
  config.tie_embeddings = get_bool(json, "tie_word_embeddings", true, where);
  config.max_tokens = get_int(json, "max_position_embeddings", 2048, where, {1, 1 << 24});
  config.position_offset = kPositionOffset;
  const IntRange ids{0, config.vocab_size - 1};
  const std::int64_t fallback = std::min<std::int64_t>(2, ids.high);
  config.bos = static_cast<TokenId>(get_int(json, "bos_token_id", fallback, where, ids));
  config.eos = static_cast<TokenId>(get_int(json, "eos_token_id", fallback, where, ids));
  return config;
}

ModelSpec read(const Json& json, const std::string& where, bool /*untied_head*/) {
  ModelSpec spec{read_model(json, where), file_name, {}};
  const std::int64_t d_model = spec.config.d_model;
  check_variant(json, where, d_model);
  AttentionBlockConfig attention;
  attention.d_model = d_model;
  attention.heads = attention.kv_heads = get_int(json, "num_attention_heads", required, where, kWidths);
  if (d_model % attention.heads != 0) {
    fail("{}: {} heads do not share hidden_size, {}, evenly", where, attention.heads, d_model);
  }
  attention.head_dim = d_model / attention.heads;
  attention.qkv_bias = attention.out_bias = true;
  const MlpConfig mlp{d_model, get_int(json, "ffn_dim", required, where, kWidths), true};
  spec.config.details = fmt::format("heads {}", attention.heads);
  spec.make_block = [attention, mlp](std::int64_t i, WeightLoader& weights) {
    if (i % kLlamaBlocks == 0) return make_attention_block(attention, mixer_prefix(i), weights);
    return make_mlp(mlp, mixer_prefix(i), weights);
  };
  return spec;
}

const Registration<Architecture> registration{"opt", {&matches, &read}};

}  // namespace
}  // namespace molt
