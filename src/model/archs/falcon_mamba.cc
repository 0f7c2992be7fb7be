// Hugging Face `model_type: falcon_mamba` (FalconMambaForCausalLM): Mamba-1 with RMS norms on dt, B and C.
#include "base/registry.h"
#include "model/archs/config_reading.h"
#include "model/archs/mamba.h"

namespace molt {
namespace {

bool matches(const Json& json) {
  return has_model_type(json, "falcon_mamba");
}

ModelSpec read(const Json& json, const std::string& where, bool untied_head) {
  ModelSpec spec{read_hugging_face_config(json, where, untied_head), same_name, {}};
  MambaBlockConfig block = read_mamba_block_config(json, where, spec.config);
  block.norm_bcdt = true;
  block.bcdt_norm_eps = get_eps(json, "mixer_rms_eps", 1e-6, where);
  spec.make_block = [block](std::int64_t i, WeightLoader& weights) {
    return make_mamba_block(block, mixer_prefix(i), weights);
  };
  return spec;
}

const Registration<Architecture> registration{"falcon_mamba", {&matches, &read}};

}  // namespace
}  // namespace molt
