// Hugging Face `model_type: llama` (LlamaForCausalLM): LLaMA 1 to 3.2, SmolLM 1 and 2, TinyLlama and their kin.
#include "model/archs/llama.h"

#include "base/registry.h"
#include "model/archs/config_reading.h"
#include "model/archs/rope.h"

namespace molt {

std::string llama_name(const LlamaNames& names, const std::string& canonical) {
  if (canonical == "backbone.embeddings.weight") return names.embedding;
  if (canonical == "backbone.norm_f.weight") return names.final_norm;
  if (canonical == "lm_head.weight") return names.head;
  constexpr std::string_view kBefore = "backbone.layers.";
  if (!canonical.starts_with(kBefore)) return canonical;
  const std::size_t dot = canonical.find('.', kBefore.size());
  const std::int64_t block = std::stoll(canonical.substr(kBefore.size(), dot - kBefore.size()));
  const std::string layer = fmt::format("{}{}.", names.layer, block / kLlamaBlocks);
  const std::string_view part = std::string_view(canonical).substr(dot + 1);
  constexpr std::string_view kNorm = "norm.";
  if (part.starts_with(kNorm)) {
    const std::string& norm = block % kLlamaBlocks == 0 ? names.attention_norm : names.mlp_norm;
    return fmt::format("{}{}.{}", layer, norm, part.substr(kNorm.size()));
  }
  constexpr std::string_view kMixer = "mixer.";
  MOLT_CHECK(part.starts_with(kMixer));
  const std::string_view matrix = part.substr(kMixer.size());
  const std::size_t end = matrix.find('.');  // before "weight" or "bias"
  return layer + names.matrix(matrix.substr(0, end)) + std::string(matrix.substr(end));
}

std::unique_ptr<Block> make_llama_block(const AttentionBlockConfig& attention, const GatedMlpConfig& mlp,
                                        std::int64_t index, WeightLoader& weights) {
  if (index % kLlamaBlocks == 0) return make_attention_block(attention, mixer_prefix(index), weights);
  return make_gated_mlp(mlp, mixer_prefix(index), weights);
}

void check_heads(const AttentionBlockConfig& attention, const std::string& where) {
  if (attention.heads % attention.kv_heads != 0) {
    fail("{}: {} heads of queries do not share {} heads of keys and values evenly", where, attention.heads,
         attention.kv_heads);
  }
  if (attention.head_dim % 2 != 0) {
    fail("{}: heads have {} channels; rotary positions turn pairs of them", where, attention.head_dim);
  }
  if (attention.heads * attention.head_dim > kWidths.high) {
    fail("{}: {} heads of {} channels are more than molt runs ({})", where, attention.heads, attention.head_dim,
         kWidths.high);
  }
}

std::string llama_details(const AttentionBlockConfig& attention) {
  return fmt::format("heads {} of {}, frequencies {}", attention.heads, attention.head_dim,
                     fmt::join(attention.frequencies, " "));
}

namespace {

std::string matrix_name(std::string_view name) {
  const bool mlp = name == "gate_proj" || name == "up_proj" || name == "down_proj";
  return fmt::format("{}.{}", mlp ? "mlp" : "self_attn", name);
}

std::string file_name(const std::string& canonical) {
  static const LlamaNames names{.embedding = "model.embed_tokens.weight",
                                .final_norm = "model.norm.weight",
                                .head = "lm_head.weight",
                                .layer = "model.layers.",
                                .attention_norm = "input_layernorm",
                                .mlp_norm = "post_attention_layernorm",
                                .matrix = &matrix_name};
  return llama_name(names, canonical);
}

bool matches(const Json& json) {
  return has_model_type(json, "llama");
}

/// eos_token_id: a token, a list of them, or null.
void read_eos(const Json& json, const std::string& where, ModelConfig& config) {
  const IntRange ids{0, config.vocab_size - 1};
  const auto it = json.find("eos_token_id");
  if (it == json.end() || !it->is_array()) {
    config.eos = static_cast<TokenId>(get_int(json, "eos_token_id", std::min<std::int64_t>(2, ids.high), where, ids));
    return;
  }
  for (std::size_t i = 0; i < it->size(); ++i) {
    const Json entry = {{"eos_token_id", (*it)[i]}};
    const auto id = static_cast<TokenId>(get_int(entry, "eos_token_id", required, where, ids));
    if (i == 0) {
      config.eos = id;
    } else {
      config.other_eos.push_back(id);
    }
  }
  if (it->empty()) fail("{}: eos_token_id is an empty list", where);
}

ModelConfig read_model(const Json& json, const std::string& where, bool untied_head) {
  const std::string activation = get_string(json, "hidden_act", "silu", where);
  if (activation != "silu" && activation != "swish") {
    fail("{}: hidden_act is \"{}\"; molt runs LLaMA models with silu", where, activation);
  }
  ModelConfig config;
  config.d_model = get_int(json, "hidden_size", required, where, kWidths);
  config.n_layer = kLlamaBlocks * get_int(json, "num_hidden_layers", required, where, {1, kLayers.high / kLlamaBlocks});
  config.vocab_size = get_int(json, "vocab_size", required, where, kVocabulary);
  config.n_tokens = config.vocab_size;
  config.norm_eps = get_eps(json, "rms_norm_eps", 1e-6, where);
  config.tie_embeddings = get_bool(json, "tie_word_embeddings", !untied_head, where);
  config.max_tokens = get_int(json, "max_position_embeddings", 2048, where, {1, std::int64_t{1} << 40});
  const IntRange ids{0, config.vocab_size - 1};
  config.bos = static_cast<TokenId>(get_int(json, "bos_token_id", std::min<std::int64_t>(1, ids.high), where, ids));
  read_eos(json, where, config);
  return config;
}

ModelSpec read(const Json& json, const std::string& where, bool untied_head) {
  ModelSpec spec{read_model(json, where, untied_head), file_name, {}};
  AttentionBlockConfig attention;
  attention.d_model = spec.config.d_model;
  attention.heads = get_int(json, "num_attention_heads", required, where, kWidths);
  attention.kv_heads = get_int(json, "num_key_value_heads", attention.heads, where, kWidths);
  attention.head_dim =
      get_int(json, "head_dim", std::max<std::int64_t>(1, attention.d_model / attention.heads), where, kWidths);
  attention.qkv_bias = get_bool(json, "attention_bias", false, where);
  attention.out_bias = attention.qkv_bias;
  check_heads(attention, where);
  attention.frequencies = read_rope(json, where, attention.head_dim);
  GatedMlpConfig mlp;
  mlp.d_model = spec.config.d_model;
  mlp.d_inner = get_int(json, "intermediate_size", required, where, kWidths);
  mlp.bias = get_bool(json, "mlp_bias", false, where);
  spec.config.details = llama_details(attention);
  spec.make_block = [attention, mlp](std::int64_t i, WeightLoader& weights) {
    // Files of the first versions hold the frequencies, too.
    weights.ignore(fmt::format("model.layers.{}.self_attn.rotary_emb.inv_freq", i / kLlamaBlocks));
    return make_llama_block(attention, mlp, i, weights);
  };
  return spec;
}

const Registration<Architecture> registration{"llama", {&matches, &read}};

}  // namespace
}  // namespace molt
