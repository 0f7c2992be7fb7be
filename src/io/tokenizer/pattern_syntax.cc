// to_pcre2: from Oniguruma's syntax to PCRE2's.
#include <fmt/format.h>

#include <cctype>

#include "base/fail.h"
#include "io/tokenizer/pattern.h"
#include "io/tokenizer/unicode.h"

namespace molt {
namespace {

// The property White_Space and its complement, as members of a class.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) in_class_ ? class_member() : element();
    if (in_class_) fail("{}: the pattern {} has a class without end", where_, in_);
    return std::move(out_);
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  bool starts(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_.append(in_, at_, count);
    at_ += count;
  }

  [[noreturn]] void refuse(std::string_view construct) const {
    fail("{}: the pattern {} uses {}, which molt does not support", where_, in_, construct);
  }

  void element() {
    switch (peek()) {
      case '\\': return escape();
      case '(': return group();
      case '{': return braces();
      case '[':
        copy(1);
        if (peek() == '^') copy(1);
        if (peek() == ']') refuse("\"]\" as the first member of a class");
        in_class_ = true;
        return;
      default: copy(1);
    }
  }

  void class_member() {
    if (peek() == '\\') return escape();
    if (peek() == '[') refuse("a class within a class");
    if (starts("&&")) refuse("an intersection of classes");
    if (peek() == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    if (peek(1) == '*') refuse("\"(*\"");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
      if (starts(known)) return copy(known.size());
    }
    if (starts("(?i)") && at_ == 0) return copy(4);  // elsewhere the engines differ in how far it reaches
    refuse(fmt::format("\"{}\"", in_.substr(at_, 4)));
  }

  // A quantifier {n}, {n,} or {n,m}; any other brace is a plain character.
  void braces() {
    std::size_t end = at_ + 1;
    const auto digits = [&] {
      const std::size_t start = end;
      while (end < in_.size() && std::isdigit(static_cast<unsigned char>(in_[end]))) ++end;
      return end > start;
    };
    const bool from = digits();
    const bool comma = end < in_.size() && in_[end] == ',';
    bool to = false;
    if (comma) {
      ++end;
      to = digits();
    }
    if (end >= in_.size() || in_[end] != '}' || !(from || to)) {
      out_ += '\\';
      return copy(1);
    }
    if (!from) refuse(in_.substr(at_, end + 1 - at_));
    copy(end + 1 - at_);
    if (peek() == '+' || (peek() == '?' && !comma)) refuse(fmt::format("\"{}\" after a counted repeat", peek()));
  }

  void escape() {
    const char c = peek(1);
    const auto emit = [&](std::string_view text) {
      out_ += text;
      at_ += 2;
    };
    const auto emit_class = [&](std::string_view members) {
      in_class_ ? emit(members) : emit(fmt::format("[{}]", members));
    };
    switch (c) {
      case 's': return emit_class(kSpace);
      case 'S': return emit_class(kNotSpace);
      case 'd':
      case 'D':
        category("Nd", c == 'D');
        at_ += 2;
        return;
      case 'v': return emit(R"(\x{0B})");
      case 'p':
      case 'P': return property();
      case 'x':
      case 'u': return code_point();
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e': return copy(2);
      case 'A':
      case 'z':
        if (!in_class_) return copy(2);
        [[fallthrough]];
      default:
        if (c == '\0' || std::isalnum(static_cast<unsigned char>(c))) refuse(fmt::format("\"\\{}\"", c));
        copy(2);  // punctuation, or the first byte of a longer character, for itself
    }
  }

  void property() {
    const std::size_t end = in_.find('}', at_);
    if (peek(2) != '{' || end == std::string_view::npos)
      refuse(fmt::format("\"\\{}\" without a name in braces", peek(1)));
    category(in_.substr(at_ + 3, end - at_ - 3), peek(1) == 'P');
    at_ = end + 1;
  }

  // \p{name}, with the characters that PCRE2 does not know yet.
  void category(std::string_view name, bool negated) {
    const auto later = later_than_pcre2(name);
    if (later.empty() || (in_class_ && negated)) {
      out_ += fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', name);
      return;
    }
    std::string members = fmt::format("\\p{{{}}}", name);
    for (const auto [first, last] : later) members += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", first, last);
    out_ += in_class_ ? members : fmt::format("[{}{}]", negated ? "^" : "", members);
  }

  void code_point() {
    const bool braced = peek(1) == 'x' && peek(2) == '{';
    const std::size_t begin = at_ + (braced ? 3 : 2);
    std::size_t end = begin;
    while (end < in_.size() && std::isxdigit(static_cast<unsigned char>(in_[end])) &&
           (braced || end - begin < (peek(1) == 'x' ? 2u : 4u))) {
      ++end;
    }
    const std::string_view digits = in_.substr(begin, end - begin);
    const bool byte = !braced && peek(1) == 'x' && (digits.size() != 2 || digits[0] > '7');  // a byte, no code point
    if (digits.empty() || byte || (braced && (end >= in_.size() || in_[end] != '}'))) {
      refuse(fmt::format("\"{}\"", in_.substr(at_, end + 1 - at_)));
    }
    out_ += fmt::format("\\x{{{}}}", digits);
    at_ = end + (braced ? 1 : 0);
  }

  std::string_view in_;
  std::string_view where_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string to_pcre2(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace molt
