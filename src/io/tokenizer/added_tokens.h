// AddedTokens: finds the added and special tokens in a text, as Hugging Face tokenizers does.
//
// Matches are leftmost-longest and do not overlap. A token with `single_word` counts only where no word character
// touches it; `lstrip` and `rstrip` take along the white space on that side. Two of these exist in a tokenizer: one for
// the text as given, one (tokens with `normalized`) for the normalized text between the matches of the first.
// Time is linear in the text times, at worst, the longest token. Thread-safety: immutable after building.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/spec.h"
#include "molt/types.h"

namespace molt {

/// A stretch of text: an added token, or (id -1) text between them.
struct Piece {
  std::string_view text;
  TokenId id;
};

class AddedTokens {
 public:
  /// Adds a token that is found as `pattern` (its content, normalized where that is asked; not empty). Of two tokens
  /// with one pattern the first counts.
  void add(const AddedToken& token, std::string_view pattern);

  bool empty() const { return tokens_.empty(); }

  /// Cuts `text` (valid UTF-8) into pieces, in order, none empty but for tokens.
  void split(std::string_view text, std::vector<Piece>& out) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;  // few
    std::int32_t token = -1;                                        // index into tokens_ of the pattern that ends here
  };
  struct Flags {
    TokenId id;
    bool single_word, lstrip, rstrip;
  };
  struct Match {
    std::size_t begin, end;
    std::int32_t token;
  };

  std::uint32_t child(std::uint32_t node, unsigned char byte) const;
  bool find(std::string_view text, std::size_t from, Match& match) const;

  std::vector<Node> nodes_{Node{}};
  std::vector<Flags> tokens_;
  std::array<std::uint32_t, 256> roots_{};  // children of the root by byte; 0 for none
  std::vector<unsigned char> first_bytes_;
};

}  // namespace molt
