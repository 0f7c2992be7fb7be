// Reading a Hugging Face MambaConfig: what `mamba` and `falcon_mamba` share.
#pragma once

#include "io/json_file.h"
#include "model/architecture.h"
#include "model/blocks/mamba.h"

namespace molt {

/// The block's dimensions and biases.
MambaBlockConfig read_mamba_block_config(const Json& json, const std::string& where, const ModelConfig& model);

}  // namespace molt
