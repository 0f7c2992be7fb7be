// The mamba_ssm package's own format: config.json with d_model, n_layer and ssm_cfg; Mamba-1 or Mamba-2.
#include "base/registry.h"
#include "model/archs/config_reading.h"
#include "model/blocks/mamba.h"
#include "model/blocks/mamba2.h"

namespace molt {
namespace {

bool matches(const Json& json) {
  return json.is_object() && json.contains("d_model") && json.contains("n_layer") && !json.contains("model_type");
}

/// mamba_ssm calls the embedding table otherwise; all other names agree with Hugging Face's.
std::string file_name(const std::string& name) {
  return name == "backbone.embeddings.weight" ? "backbone.embedding.weight" : name;
}

void refuse_what_is_not_mamba(const Json& json, const std::string& where) {
  const auto attention = json.find("attn_layer_idx");
  if (attention != json.end() && attention->is_array() && !attention->empty()) {
    fail("{}: attn_layer_idx {}: hybrids with attention layers are not supported", where, describe(*attention));
  }
  if (const auto mlp = get_int(json, "d_intermediate", 0, where); mlp != 0) {
    fail("{}: d_intermediate is {}: models with MLP layers are not supported", where, mlp);
  }
  if (!get_bool(json, "rms_norm", true, where)) {
    fail("{}: rms_norm is false: models with LayerNorm are not supported", where);
  }
}

// Whether lm_head.weight stands in the file says nothing here: mamba_ssm saves tied heads, too.
ModelConfig read_model_config(const Json& json, const std::string& where) {
  ModelConfig config;
  config.d_model = get_int(json, "d_model", required, where, kWidths);
  config.n_layer = get_int(json, "n_layer", required, where, kLayers);
  config.n_tokens = get_int(json, "vocab_size", required, where, kVocabulary);
  const std::int64_t multiple = get_int(json, "pad_vocab_size_multiple", 8, where, {1, 1 << 16});
  config.vocab_size = (config.n_tokens + multiple - 1) / multiple * multiple;
  config.tie_embeddings = get_bool(json, "tie_embeddings", true, where);
  return config;
}

MambaBlockConfig read_mamba(const Json& ssm, const std::string& where, std::int64_t d_model) {
  MambaBlockConfig block;
  block.d_model = d_model;
  block.d_inner = get_int(ssm, "expand", 2, where, {1, 64}) * d_model;
  block.d_state = get_int(ssm, "d_state", 16, where, kWidths);
  block.d_conv = get_int(ssm, "d_conv", 4, where, kTaps);
  block.dt_rank = get_int_or_auto(ssm, "dt_rank", (d_model + 15) / 16, where, kWidths);
  block.bias = get_bool(ssm, "bias", false, where);
  block.conv_bias = get_bool(ssm, "conv_bias", true, where);
  return block;
}

Mamba2BlockConfig read_mamba2(const Json& ssm, const std::string& where, std::int64_t d_model) {
  Mamba2BlockConfig block;
  block.d_model = d_model;
  block.d_inner = get_int(ssm, "expand", 2, where, {1, 64}) * d_model;
  if (const auto d_ssm = get_int(ssm, "d_ssm", block.d_inner, where); d_ssm != block.d_inner) {
    fail("{}: ssm_cfg.d_ssm is {}: blocks whose SSM covers only part of their width ({}) are not supported", where,
         d_ssm, block.d_inner);
  }
  block.d_state = get_int(ssm, "d_state", 128, where, kWidths);
  block.d_conv = get_int(ssm, "d_conv", 4, where, kTaps);
  block.groups = get_int(ssm, "ngroups", 1, where, kWidths);
  const std::int64_t head_dim = get_int(ssm, "headdim", 64, where, kWidths);
  block.heads = block.d_inner / head_dim;
  if (block.heads * head_dim != block.d_inner || block.heads % block.groups != 0) {
    fail("{}: ssm_cfg.headdim {} must divide the inner width {}, and ngroups {} the number of heads", where, head_dim,
         block.d_inner, block.groups);
  }
  block.bias = get_bool(ssm, "bias", false, where);
  block.conv_bias = get_bool(ssm, "conv_bias", true, where);
  block.gated_norm = get_bool(ssm, "rmsnorm", true, where);
  block.norm_before_gate = get_bool(ssm, "norm_before_gate", false, where);
  block.norm_group = block.d_inner / block.groups;
  block.D_per_channel = get_bool(ssm, "D_has_hdim", false, where);
  read_dt_limit(ssm, "dt_limit", where, block.dt_min, block.dt_max);
  return block;
}

ModelSpec read(const Json& json, const std::string& where, bool /*untied_head*/) {
  refuse_what_is_not_mamba(json, where);
  ModelSpec spec{read_model_config(json, where), file_name, {}};
  const auto member = json.find("ssm_cfg");
  const Json ssm = member == json.end() || member->is_null() ? Json::object() : *member;
  if (!ssm.is_object()) fail("{}: ssm_cfg is {}; it must be an object", where, describe(ssm));
  const std::string layer = get_string(ssm, "layer", "Mamba1", where);
  const std::int64_t d_model = spec.config.d_model;
  if (layer == "Mamba1") {
    spec.make_block = [block = read_mamba(ssm, where, d_model)](std::int64_t i, WeightLoader& weights) {
      return make_mamba_block(block, mixer_prefix(i), weights);
    };
  } else if (layer == "Mamba2") {
    spec.make_block = [block = read_mamba2(ssm, where, d_model)](std::int64_t i, WeightLoader& weights) {
      return make_mamba2_block(block, mixer_prefix(i), weights);
    };
  } else {
    fail("{}: ssm_cfg.layer is \"{}\"; molt knows Mamba1 and Mamba2", where, layer);
  }
  return spec;
}

const Registration<Architecture> registration{"mamba_ssm", {&matches, &read}};

}  // namespace
}  // namespace molt
