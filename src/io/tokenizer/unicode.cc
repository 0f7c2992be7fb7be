#include "io/tokenizer/unicode.h"

#include <algorithm>
#include <vector>

namespace molt {
namespace {

#include "io/tokenizer/unicode_tables.inc"

// The property White_Space. PCRE2's \s has U+180E as well, which lost the property in Unicode 6.3.
constexpr CodePointRange kSpaces[] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                      {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                      {0x205F, 0x205F}, {0x3000, 0x3000}};

bool contains(std::span<const CodePointRange> ranges, std::uint32_t c) {
  const auto it = std::ranges::lower_bound(ranges, c, {}, &CodePointRange::last);
  return it != ranges.end() && it->first <= c;
}

std::vector<CharClass> make_char_classes() {
  std::vector<CharClass> classes(0x110000, CharClass::kOther);
  const auto fill = [&](std::span<const CodePointRange> ranges, CharClass value) {
    for (const auto [first, last] : ranges) std::fill(&classes[first], &classes[last] + 1, value);
  };
  fill(kLetters, CharClass::kLetter);
  fill(kNumbers, CharClass::kNumber);
  fill(kSpaces, CharClass::kSpace);
  return classes;
}

}  // namespace

const CharClass* char_classes() {
  static const std::vector<CharClass> classes = make_char_classes();
  return classes.data();
}

bool is_space(std::uint32_t code_point) {
  return contains(kSpaces, code_point);
}

bool is_word(std::uint32_t code_point) {
  return contains(kWord, code_point);
}

std::span<const CodePointRange> later_than_pcre2(std::string_view category) {
  if (category == "L") return kLaterLetters;
  if (category == "N") return kLaterNumbers;
  if (category == "Nd") return kLaterDigits;
  return {};
}

std::span<const CodePointRange> later_than_nfc() {
  return kLaterThanNfc;
}

}  // namespace molt
