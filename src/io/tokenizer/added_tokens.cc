#include "io/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

bool word_before(std::string_view text, std::size_t at) {
  return at > 0 && is_word(utf8::decode(text, utf8::previous(text, at)).code_point);
}

bool word_after(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(utf8::decode(text, at).code_point);
}

std::size_t skip_space_left(std::string_view text, std::size_t at, std::size_t limit) {
  while (at > limit) {
    const std::size_t previous = utf8::previous(text, at);
    if (!is_space(utf8::decode(text, previous).code_point)) break;
    at = previous;
  }
  return std::max(at, limit);
}

std::size_t skip_space_right(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const auto [code_point, length] = utf8::decode(text, at);
    if (!is_space(code_point)) break;
    at += length;
  }
  return at;
}

}  // namespace

void AddedTokens::add(const AddedToken& token, std::string_view pattern) {
  std::uint32_t node = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].token >= 0) return;
  nodes_[node].token = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip});
  const auto first = static_cast<unsigned char>(pattern.front());
  roots_[first] = child(0, first);
  if (std::ranges::find(first_bytes_, first) == first_bytes_.end()) first_bytes_.push_back(first);
}

std::uint32_t AddedTokens::child(std::uint32_t node, unsigned char byte) const {
  for (const auto& [label, next] : nodes_[node].children) {
    if (label == byte) return next;
  }
  return 0;
}

bool AddedTokens::find(std::string_view text, std::size_t from, Match& match) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (first_bytes_.size() == 1) {
      const void* found = std::memchr(text.data() + begin, first_bytes_[0], text.size() - begin);
      if (found == nullptr) return false;
      begin = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    }
    std::uint32_t node = roots_[static_cast<unsigned char>(text[begin])];
    match.token = -1;
    for (std::size_t at = begin + 1; node != 0; ++at) {
      if (nodes_[node].token >= 0) match = {begin, at, nodes_[node].token};
      if (at == text.size()) break;
      node = child(node, static_cast<unsigned char>(text[at]));
    }
    if (match.token >= 0) return true;
  }
  return false;
}

void AddedTokens::split(std::string_view text, std::vector<Piece>& out) const {
  // `done` may lie behind a match's begin when an earlier one has taken white space along (rstrip) that is a token of
  // its own: both count, as in the reference.
  std::size_t done = 0;
  Match match{};
  for (std::size_t from = 0; !empty() && find(text, from, match);) {
    from = match.end;
    const Flags& token = tokens_[static_cast<std::size_t>(match.token)];
    if (token.single_word && (word_before(text, match.begin) || word_after(text, match.end))) continue;
    std::size_t begin = match.begin;
    if (token.lstrip) begin = std::max(done, skip_space_left(text, begin, std::min(done, begin)));
    const std::size_t end = token.rstrip ? skip_space_right(text, match.end) : match.end;
    if (begin >= end) continue;  // white space that an earlier token has taken along
    if (done < begin) out.push_back({text.substr(done, begin - done), -1});
    out.push_back({{}, token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({text.substr(done), -1});
}

}  // namespace molt
