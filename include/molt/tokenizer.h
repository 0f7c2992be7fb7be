// Tokenizer: text to token ids and back, as a Hugging Face `tokenizer.json` describes it.
//
// Byte-level BPE: normalizer NFC or none; pre-tokenizers ByteLevel, Split and Sequence; added and special tokens;
// ByteLevel decoder. Ids and decoded text equal those of Hugging Face tokenizers with add_special_tokens off. A file
// that asks for anything else is refused with an Error that names it. `truncation` and `padding` in a file are ignored:
// molt never cuts or pads a text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "molt/types.h"

namespace molt {

/// Copies share one immutable vocabulary: copying is cheap. Thread-safety: all methods may be called from any number of
/// threads at once.
class Tokenizer {
 public:
  /// Reads `path`: a tokenizer.json, a folder that holds one, or a GGUF file, whose tokenizer is rebuilt from its
  /// vocabulary. Throws Error naming the file and the place in it.
  static Tokenizer load(const std::string& path);

  /// Reads the text of a tokenizer.json; errors name it as `where`.
  static Tokenizer parse(std::string_view json, std::string_view where);

  /// The ids of `text`. Added tokens in it are recognised wherever they stand; none is added. Time is linear in the
  /// length (n log n within one word). Throws Error with the byte offset when `text` is not valid UTF-8.
  std::vector<TokenId> encode(std::string_view text) const;

  /// The text of `ids`, special tokens left out with `skip_special`. Bytes that form no UTF-8 become U+FFFD, one for
  /// each maximal ill-formed part (Unicode 15, section 3.9). Throws Error for an id that names no token.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  /// One more than the highest id. A model's embedding may be longer (padding), never shorter.
  std::int64_t vocab_size() const;

  /// The id of a token as tokenizer.json spells it: "<|endoftext|>", "Ġthe".
  std::optional<TokenId> id_of(std::string_view token) const;

  /// The bytes that a token stands for, not always valid UTF-8. They live as long as any copy of this tokenizer. Throws
  /// Error for an id that names no token.
  std::string_view token_bytes(TokenId id) const;

  /// Whether `id` is a special token; false for an id that names no token.
  bool is_special(TokenId id) const;

  /// All special tokens, ascending.
  const std::vector<TokenId>& special_ids() const;

 private:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Decodes one id at a time for display: every piece is whole UTF-8 characters, and all pieces together are exactly
/// Tokenizer::decode() of all ids. Holds back at most the three bytes of an unfinished character.
/// Thread-safety: one thread at a time.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  /// The text that `id` completes; often empty in the middle of a character. Throws Error for an id that names no
  /// token and stays as it was.
  std::string push(TokenId id);

  /// What is left at the end: an unfinished character as U+FFFD, or nothing. Ready for a new stream afterwards.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace molt
