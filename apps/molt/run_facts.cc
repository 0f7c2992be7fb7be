#include "run_facts.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/cpu/select.h"
#include "model/model.h"
#include "molt/threads.h"

namespace molt::cli {

std::string name_of_model(const Model& model) {
  std::filesystem::path path(model.source());
  if (!path.has_filename()) path = path.parent_path();
  const std::string name = path.filename();
  return name.empty() || name == "." || name == ".." ? model.source() : name;
}

nlohmann::json describe_run(const Model& model, const ModelOptions& options) {
  const ModelCore& core = *model.core();
  return {{"molt", MOLT_VERSION},
          {"model", model.source()},
          {"fingerprint", core.fingerprint()},
          {"weights", core.weight_formats()},
          {"states", name_of(core.state_dtype())},
          {"weight_bytes", core.cost().weight_bytes},
          {"layers", core.config().n_layer},
          {"backend", options.backend},
          {"isa", select_kernels().name},
          {"threads", num_threads()}};
}

std::vector<report::Fact> run_facts(const Model& model, const ModelOptions& options) {
  const ModelCore& core = *model.core();
  return {{"molt", MOLT_VERSION},
          {"model", model.source()},
          {"fingerprint", core.fingerprint()},
          {"weights",
           fmt::format("{}, {:.1f} MB", core.weight_formats(), static_cast<double>(core.cost().weight_bytes) / 1e6)},
          {"states", std::string(name_of(core.state_dtype()))},
          {"layers", std::to_string(core.config().n_layer)},
          {"kernels", options.backend == "cpu" ? select_kernels().name : options.backend},
          {"threads", std::to_string(num_threads())}};
}

}  // namespace molt::cli
