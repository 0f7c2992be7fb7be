// The shapes of published models, for measuring speed and memory without their weights.
#pragma once

#include <string>
#include <vector>

#include "io/json_file.h"

namespace molt {

/// Names that published_config() knows: "mamba-130m", "mamba2-2.7b", ...
std::vector<std::string> published_shapes();

/// The configuration of that model, as its Hugging Face config.json has it. Throws Error that lists the known names.
Json published_config(const std::string& name);

}  // namespace molt
