#include "io/tokenizer/word_splitter.h"

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

// The class of the character at `at`, and where the next one starts.
CharClass class_at(std::string_view text, std::size_t at, const CharClass* classes, std::size_t& next) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) {
    next = at + 1;
    return classes[byte];
  }
  const auto [code_point, length] = utf8::decode(text, at);
  next = at + length;
  return classes[code_point];
}

std::size_t run_end(std::string_view text, std::size_t at, CharClass wanted, const CharClass* classes) {
  std::size_t next = at;
  while (at < text.size() && class_at(text, at, classes, next) == wanted) at = next;
  return at;
}

// The length of the contraction at `at`, where an apostrophe stands; 0 for none.
std::size_t contraction(std::string_view text, std::size_t at) {
  const auto letter = [&](std::size_t i) { return at + i < text.size() ? text[at + i] : '\0'; };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd': return 2;
    case 'r':
    case 'v': return letter(2) == 'e' ? 3 : 0;
    case 'l': return letter(2) == 'l' ? 3 : 0;
    default: return 0;
  }
}

}  // namespace

const std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::size_t gpt2_word_end(std::string_view text, std::size_t at) {
  static const CharClass* const classes = char_classes();
  if (text[at] == '\'') {
    if (const std::size_t length = contraction(text, at)) return at + length;
  }
  std::size_t next = at;
  CharClass first = class_at(text, at, classes, next);
  if (text[at] == ' ' && next < text.size()) first = class_at(text, next, classes, next);
  if (first != CharClass::kSpace) return run_end(text, next, first, classes);
  // White space: to the end of the text, or up to the last one, which the next word may take along.
  const std::size_t end = run_end(text, next, CharClass::kSpace, classes);
  if (end == text.size()) return end;
  const std::size_t last = utf8::previous(text, end);
  return last > at ? last : end;
}

}  // namespace molt
