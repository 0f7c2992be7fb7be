// Hugging Face `model_type: mamba2` (Mamba2ForCausalLM).
#include "model/blocks/mamba2.h"

#include "base/registry.h"
#include "model/archs/config_reading.h"

namespace molt {
namespace {

bool matches(const Json& json) {
  return has_model_type(json, "mamba2");
}

ModelSpec read(const Json& json, const std::string& where, bool untied_head) {
  ModelSpec spec{read_hugging_face_config(json, where, untied_head), same_name, {}};
  Mamba2BlockConfig block;
  block.d_model = spec.config.d_model;
  block.d_inner = get_int(json, "expand", 2, where, {1, 64}) * block.d_model;
  block.d_state = get_int(json, "state_size", 128, where, kWidths);
  block.d_conv = get_int(json, "conv_kernel", 4, where, kTaps);
  block.groups = get_int(json, "n_groups", 8, where, kWidths);
  const std::int64_t head_dim = get_int(json, "head_dim", 64, where, kWidths);
  block.heads = get_int(json, "num_heads", block.d_inner / head_dim, where, kWidths);
  if (block.heads * head_dim != block.d_inner || block.heads % block.groups != 0) {
    fail("{}: num_heads {} x head_dim {} must equal expand x hidden_size {}, and n_groups {} must divide num_heads",
         where, block.heads, head_dim, block.d_inner, block.groups);
  }
  block.bias = get_bool(json, "use_bias", false, where);
  block.conv_bias = get_bool(json, "use_conv_bias", true, where);
  // transformers norms all channels together, whatever n_groups is, and gates first.
  block.norm_group = block.d_inner;
  block.norm_eps = spec.config.norm_eps;
  read_dt_limit(json, "time_step_limit", where, block.dt_min, block.dt_max);
  spec.make_block = [block](std::int64_t i, WeightLoader& weights) {
    return make_mamba2_block(block, mixer_prefix(i), weights);
  };
  return spec;
}

const Registration<Architecture> registration{"mamba2", {&matches, &read}};

}  // namespace
}  // namespace molt
