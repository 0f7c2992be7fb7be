// Token ids out of safetensors files.
#pragma once

#include <string>
#include <vector>

#include "io/safetensors.h"
#include "molt/tokenizer.h"

namespace molt::cli {

/// The rows of a tensor of token ids, i32 or i64, [S, L] or [L]. Throws Error naming `path` and the tensor when it is
/// absent, of another type or shape, or holds what is no token id.
std::vector<std::vector<TokenId>> token_rows(const SafetensorsFile& file, const std::string& name,
                                             const std::string& path);

}  // namespace molt::cli
