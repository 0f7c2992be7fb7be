// Hugging Face `model_type: mamba` (MambaForCausalLM): Mamba-1.
#include "model/archs/mamba.h"

#include "base/registry.h"
#include "model/archs/config_reading.h"

namespace molt {

MambaBlockConfig read_mamba_block_config(const Json& json, const std::string& where, const ModelConfig& model) {
  MambaBlockConfig block;
  block.d_model = model.d_model;
  const std::int64_t expand = get_int(json, "expand", 2, where, {1, 64});
  block.d_inner = get_int(json, "intermediate_size", expand * model.d_model, where, kWidths);
  block.d_state = get_int(json, "state_size", 16, where, kWidths);
  block.d_conv = get_int(json, "conv_kernel", 4, where, kTaps);
  block.dt_rank = get_int_or_auto(json, "time_step_rank", (model.d_model + 15) / 16, where, kWidths);
  block.bias = get_bool(json, "use_bias", false, where);
  block.conv_bias = get_bool(json, "use_conv_bias", true, where);
  return block;
}

namespace {

bool matches(const Json& json) {
  return has_model_type(json, "mamba");
}

ModelSpec read(const Json& json, const std::string& where, bool untied_head) {
  ModelSpec spec{read_hugging_face_config(json, where, untied_head), same_name, {}};
  spec.make_block = [block = read_mamba_block_config(json, where, spec.config)](std::int64_t i, WeightLoader& weights) {
    return make_mamba_block(block, mixer_prefix(i), weights);
  };
  return spec;
}

const Registration<Architecture> registration{"mamba", {&matches, &read}};

}  // namespace
}  // namespace molt
