// The frequencies of rotary positions, as Hugging Face configurations spell them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace molt {

/// base^(-2i / width) for i < width / 2: radians a token (Su et al. 2021).
std::vector<double> rope_frequencies(double base, std::int64_t width);

/// Of heads of `head_dim` channels, from `rope_theta` with `rope_scaling` (transformers 4) or from `rope_parameters`
/// (transformers 5): the types default, linear and llama3. Throws Error that names any other.
std::vector<double> read_rope(const Json& json, const std::string& where, std::int64_t head_dim);

}  // namespace molt
