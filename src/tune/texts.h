// Calibration text: cut into documents, each put to one use, so that nothing is judged on what it was made from.
#pragma once

#include <cstdint>
#include <string>

#include "molt/model.h"
#include "tune/probes.h"

namespace molt {

struct Texts {
  Documents maps;    // for measuring activations
  Documents search;  // for choosing
  Documents apart;   // for the final figures
};

/// The documents of `text`, separated by "<|endoftext|>", empty ones left out. Throws Error when the model has no
/// tokenizer, or one that is not its own, or when a document is not valid UTF-8.
Documents encode_documents(const Model& model, const std::string& text);

/// The same for whoever has no model loaded: each document behind `bos`, all ids below `vocab_size`.
Documents encode_documents(const Tokenizer& tokenizer, TokenId bos, std::int64_t vocab_size, const std::string& text);

/// The same put to their uses: of every five, two are for maps, two for
/// the search and one stays apart. Throws Error as encode_documents() does.
Texts split_text(const Model& model, const std::string& text);

}  // namespace molt
