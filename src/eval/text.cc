#include "eval/text.h"

#include <utf8proc.h>

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace molt::eval {
namespace {

bool is_python_space(std::uint32_t c) {
  return is_space(c) || (c >= 0x1C && c <= 0x1F);
}

}  // namespace

std::size_t trailing_space(std::string_view text) {
  std::size_t at = text.size();
  while (at > 0) {
    const std::size_t before = utf8::previous(text, at);
    if (!is_python_space(utf8::decode(text, before).code_point)) break;
    at = before;
  }
  return text.size() - at;
}

std::size_t leading_space(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const utf8::Decoded c = utf8::decode(text, at);
    if (!is_python_space(c.code_point)) break;
    at += c.length;
  }
  return at;
}

std::string_view strip(std::string_view text) {
  text.remove_suffix(trailing_space(text));
  text.remove_prefix(leading_space(text));
  return text;
}

std::int64_t count_characters(std::string_view text) {
  std::int64_t count = 0;
  for (std::size_t at = 0; at < text.size(); at += utf8::decode(text, at).length) ++count;
  return count;
}

std::int64_t count_words(std::string_view text) {
  std::int64_t words = 1;
  bool in_space = false;
  for (std::size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text, at);
    const bool space = is_python_space(c.code_point);
    if (space && !in_space) ++words;
    in_space = space;
    at += c.length;
  }
  return words;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at = 0; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
    result.append(text, begin, at - begin).append(to);
  }
  result.append(text, begin);
  text = std::move(result);
}

std::string capitalize(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text, at);
    const auto code = static_cast<utf8proc_int32_t>(c.code_point);
    utf8::append(static_cast<std::uint32_t>(at == 0 ? utf8proc_totitle(code) : utf8proc_tolower(code)), result);
    at += c.length;
  }
  return result;
}

}  // namespace molt::eval
