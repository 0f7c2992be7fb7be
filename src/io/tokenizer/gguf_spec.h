// The tokenizer that a GGUF file holds, as a TokenizerSpec: what its tokenizer.json would have said.
//
// The keys tokenizer.ggml.* hold tokens, their kinds and merges of a byte-level BPE (model "gpt2"), and name the way of
// splitting text (pre "olmo", "falcon", ...) without spelling it out. Of the normalizer nothing is kept; the tokenizers
// of the GPT-NeoX kind, which are called "olmo" and "mpt", have NFC, and get it. A file that carries the whole
// tokenizer.json (tokenizer.huggingface.json) is read by that.
//
// Thread-safety: free functions without state.
#pragma once

#include <string>

#include "io/gguf.h"
#include "io/tokenizer/spec.h"

namespace molt {

/// Why molt cannot read the file's tokenizer ("holds a SentencePiece tokenizer, ..."), or "" when it can.
std::string unreadable_tokenizer(const GgufFile& file);

/// Reads it. Throws Error for what unreadable_tokenizer() names, and naming the key for what is malformed.
TokenizerSpec read_gguf_tokenizer(const GgufFile& file);

}  // namespace molt
