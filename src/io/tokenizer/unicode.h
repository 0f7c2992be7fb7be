// The Unicode properties that decide token boundaries.
//
// From tables frozen in the repository (Unicode 16.0, scripts/make-unicode-tables.py), so that ids do not depend on the
// version of an installed library. Pure functions of tables built once; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace molt {

struct CodePointRange {
  std::uint32_t first;
  std::uint32_t last;  // inclusive
};

/// The classes that tokenizer patterns tell apart: \p{L}, \p{N}, \s (the property White_Space) and everything else.
enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

/// The class of every code point, indexed by it: 0x110000 entries.
const CharClass* char_classes();

bool is_space(std::uint32_t code_point);

/// Whether a code point is \w: a letter, mark, decimal digit, letter number, connector punctuation or joiner, or has
/// the property Alphabetic (Unicode Technical Standard 18, annex C).
bool is_word(std::uint32_t code_point);

/// Code points of the general categories L, N and Nd that are newer than Unicode 14.0, ascending; empty for another
/// name. PCRE2 10.42 does not know them.
std::span<const CodePointRange> later_than_pcre2(std::string_view category);

/// Code points on which canonical normalization acts in Unicode 16.0 and did not in Unicode 9.0, ascending.
std::span<const CodePointRange> later_than_nfc();

}  // namespace molt
