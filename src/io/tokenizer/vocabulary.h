// Vocabulary: the tokens of a tokenizer, by spelling, by id and by bytes.
//
// Thread-safety: immutable after building.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/tokenizer/bpe.h"
#include "io/tokenizer/spec.h"
#include "molt/types.h"

namespace molt {

class Vocabulary {
 public:
  /// Throws Error, naming `where`, when two tokens share an id, an added token contradicts the vocabulary, or a byte
  /// that UTF-8 text can have, rare ones apart, has no token.
  Vocabulary(const TokenizerSpec& spec, std::string_view where);
  Vocabulary(const Vocabulary&) = delete;  // ids_ refers into the other members
  Vocabulary& operator=(const Vocabulary&) = delete;

  /// One more than the highest id.
  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }

  std::optional<TokenId> id_of(std::string_view spelling) const;

  /// Throws Error when `id` names no token.
  std::string_view bytes(TokenId id) const;

  /// Ascending.
  const std::vector<TokenId>& special_ids() const { return special_ids_; }

  /// The id of each byte's token, -1 for the bytes that no UTF-8 text has, and perhaps for rare ones.
  const std::array<TokenId, 256>& byte_ids() const { return byte_ids_; }

  /// Throws Error for a merge of or to a token that is not in the vocabulary.
  std::vector<Merge> resolve_merges(const std::vector<std::pair<std::string, std::string>>& merges) const;

  /// The tokens of the vocabulary proper by their bytes; the views live as long as this object.
  std::unordered_map<std::string_view, TokenId> whole_words() const;

 private:
  enum class Kind : unsigned char { kNone, kBytes, kText };  // kText: spelled outside the byte alphabet
  struct Token {
    std::string spelling;
    std::string bytes;
    Kind kind = Kind::kNone;
    bool in_model = false;  // of the vocabulary proper
    bool added = false;     // one of the added tokens
  };

  void add(const std::string& spelling, TokenId id, bool in_model);
  TokenId unknown_id(const TokenizerSpec& spec, unsigned byte) const;
  void add_added_token(const AddedToken& token, bool normalize);
  static void set_bytes(Token& token, std::string_view spelling);
  std::optional<TokenId> find_in_model(std::string_view spelling) const;

  std::string where_;
  std::vector<Token> tokens_;  // by id
  std::unordered_map<std::string_view, TokenId> ids_;
  std::vector<TokenId> special_ids_;
  std::array<TokenId, 256> byte_ids_{};
};

}  // namespace molt
