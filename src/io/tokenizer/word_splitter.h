// The GPT-2 split, by hand: what the pattern
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// matches one after the other (it matches everywhere, so its matches tile the text). Linear in any text, several times
// as fast as a regular expression, and its \p{L} and \p{N} are the frozen tables of unicode.h. The tests compare it
// with PCRE2 on random text.
#pragma once

#include <cstddef>
#include <string_view>

namespace molt {

/// The pattern above, as Split pre-tokenizers spell it.
extern const std::string_view kGpt2Pattern;

/// The end of the match that starts at `at` < text.size(); `text` is valid UTF-8 and `at` the start of a character.
std::size_t gpt2_word_end(std::string_view text, std::size_t at);

}  // namespace molt
