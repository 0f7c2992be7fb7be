// Text as Python's str sees it: what lm-evaluation-harness does to questions is said in these terms.
//
// All text is valid UTF-8. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace molt::eval {

/// Where str.rstrip() would cut, and str.lstrip(): bytes of white space at the end, and at the beginning. White space
/// is what Unicode calls so and the four separators U+001C to U+001F.
std::size_t trailing_space(std::string_view text);
std::size_t leading_space(std::string_view text);

/// str.strip().
std::string_view strip(std::string_view text);

/// len(): code points.
std::int64_t count_characters(std::string_view text);

/// len(re.split(r"\s+", text)): one more than there are runs of white space.
std::int64_t count_words(std::string_view text);

/// str.replace(): every occurrence from left to right, none within what was put in.
void replace_all(std::string& text, std::string_view from, std::string_view to);

/// str.capitalize(): the first character as title case, all others lower. Characters whose other case is several
/// characters long stay as they are.
std::string capitalize(std::string_view text);

}  // namespace molt::eval
