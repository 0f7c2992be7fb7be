// GGUF files of llama.cpp with `general.architecture` llama.
#pragma once

#include "io/gguf.h"
#include "model/architecture.h"

namespace molt {

/// What every GGUF model has must be in `config` already; the rest is read here. Throws Error.
ModelSpec read_gguf_llama(const GgufFile& file, ModelConfig config);

}  // namespace molt
