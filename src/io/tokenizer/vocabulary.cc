#include "io/tokenizer/vocabulary.h"

#include <algorithm>

#include "base/fail.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/nfc.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

/// Bytes that a vocabulary may lack, as SmolLM's lacks some: control characters that no text is laid out with, and what
/// only characters beyond U+40000 begin with. They become the unk_token or, without one, are left out of a text, as
/// Hugging Face tokenizers and llama.cpp do.
bool is_rare(unsigned byte) {
  const bool layout = byte >= 0x09 && byte <= 0x0D;
  return (byte < 0x20 && !layout) || byte == 0x7F || (byte > 0xF0 && byte < 0xF5);
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerSpec& spec, std::string_view where) : where_(where) {
  TokenId highest = -1;
  for (const auto& [spelling, id] : spec.vocab) highest = std::max(highest, id);
  for (const AddedToken& token : spec.added) highest = std::max(highest, token.id);
  tokens_.resize(static_cast<std::size_t>(highest) + 1);
  ids_.reserve(spec.vocab.size() + spec.added.size());
  for (const auto& [spelling, id] : spec.vocab) add(spelling, id, true);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string spelling = spell_byte(static_cast<unsigned char>(byte));
    const auto id = find_in_model(spelling);
    if (!id && utf8::may_hold(byte) && !is_rare(byte)) {
      fail("{}.model.vocab: the byte 0x{:02X} has no token (\"{}\"); molt reads vocabularies that can spell every text",
           where_, byte, spelling);
    }
    byte_ids_[byte] = id ? *id : utf8::may_hold(byte) ? unknown_id(spec, byte) : -1;
  }
  for (const AddedToken& token : spec.added) add_added_token(token, spec.nfc && token.normalized);
  std::ranges::sort(special_ids_);
}

TokenId Vocabulary::unknown_id(const TokenizerSpec& spec, unsigned byte) const {
  if (spec.unknown.empty()) return -1;
  const auto id = find_in_model(spec.unknown);
  if (!id || spec.fuse_unknown) {
    fail(
        "{}.model: the byte 0x{:02X} has no token, and its unk_token \"{}\" {}; molt wants one in the vocabulary, "
        "without fuse_unk",
        where_, byte, spec.unknown, id ? "is fused" : "is not in the vocabulary");
  }
  return *id;
}

void Vocabulary::add(const std::string& spelling, TokenId id, bool in_model) {
  Token& token = tokens_[static_cast<std::size_t>(id)];
  if (token.kind != Kind::kNone) {
    fail("{}: the tokens \"{}\" and \"{}\" have the same id {}", where_, token.spelling, spelling, id);
  }
  token.spelling = spelling;
  token.in_model = in_model;
  set_bytes(token, spelling);
  ids_.emplace(token.spelling, id);
}

void Vocabulary::set_bytes(Token& token, std::string_view spelling) {
  auto bytes = unspell(spelling);
  token.kind = bytes ? Kind::kBytes : Kind::kText;
  token.bytes = bytes ? std::move(*bytes) : std::string(spelling);
}

void Vocabulary::add_added_token(const AddedToken& token, bool normalize) {
  if (const auto known = id_of(token.content); !known) {
    add(token.content, token.id, false);
  } else if (*known != token.id) {
    fail("{}.added_tokens: \"{}\" has the id {}, but {} elsewhere in the file", where_, token.content, token.id,
         *known);
  }
  Token& entry = tokens_[static_cast<std::size_t>(token.id)];
  if (entry.added) fail("{}.added_tokens: \"{}\" (id {}) is there twice", where_, token.content, token.id);
  entry.added = true;
  std::string buffer;
  if (normalize) set_bytes(entry, nfc(token.content, buffer));  // what it is found as is what it decodes to
  if (token.special) special_ids_.push_back(token.id);
}

std::optional<TokenId> Vocabulary::id_of(std::string_view spelling) const {
  const auto it = ids_.find(spelling);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<TokenId> Vocabulary::find_in_model(std::string_view spelling) const {
  const auto id = id_of(spelling);
  return id && tokens_[static_cast<std::size_t>(*id)].in_model ? id : std::nullopt;
}

std::string_view Vocabulary::bytes(TokenId id) const {
  if (id < 0 || id >= size()) fail("the token id {} is out of range: {} has ids from 0 to {}", id, where_, size() - 1);
  const Token& token = tokens_[static_cast<std::size_t>(id)];
  if (token.kind == Kind::kNone) fail("the token id {} names no token of {}", id, where_);
  return token.bytes;
}

std::vector<Merge> Vocabulary::resolve_merges(const std::vector<std::pair<std::string, std::string>>& merges) const {
  std::vector<Merge> resolved;
  resolved.reserve(merges.size());
  const auto resolve = [&](const std::string& token) {
    if (const auto id = find_in_model(token)) return *id;
    fail("{}.model.merges[{}]: the token \"{}\" is not in the vocabulary", where_, resolved.size(), token);
  };
  for (const auto& [left, right] : merges) {
    const TokenId left_id = resolve(left);
    const TokenId right_id = resolve(right);
    resolved.push_back({left_id, right_id, resolve(left + right)});
  }
  return resolved;
}

std::unordered_map<std::string_view, TokenId> Vocabulary::whole_words() const {
  std::unordered_map<std::string_view, TokenId> words;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const Token& token = tokens_[id];
    if (token.in_model && token.kind == Kind::kBytes && !token.bytes.empty()) {
      words.emplace(token.bytes, static_cast<TokenId>(id));
    }
  }
  return words;
}

}  // namespace molt
