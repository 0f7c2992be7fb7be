#include "model/architecture.h"

#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "base/registry.h"
#include "io/json_file.h"

namespace molt {

ModelSpec read_model_spec(const nlohmann::json& config, const std::string& where, bool untied_head) {
  if (!config.is_object()) fail("{}: is {}; a model's configuration must be an object", where, describe(config));
  const auto& registry = Registry<Architecture>::instance();
  for (const auto& [name, architecture] : registry.entries()) {
    if (!architecture.matches(config)) continue;
    ModelSpec spec = architecture.read(config, where, untied_head);
    spec.config.architecture = name;
    return spec;
  }
  const auto type = config.find("model_type");
  fail(
      "{}: {}; molt reads {} (mamba_ssm: that package's own files, with d_model, n_layer and ssm_cfg instead of a "
      "model_type)",
      where, type == config.end() ? "it names no model_type" : fmt::format("model_type is {}", describe(*type)),
      fmt::join(registry.names(), ", "));
}

}  // namespace molt
