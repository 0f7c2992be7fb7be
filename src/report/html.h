// The words of HTML: text that any page can hold, whatever it says, and tables.
//
// Pure functions; equal input gives equal bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace molt::report {

/// `text` as HTML text or as an attribute's value in quotes: valid UTF-8 without markup. Bytes that are no UTF-8 become
/// U+FFFD; characters that a page must not hold, or that would hide or turn around what stands beside them (controls,
/// overrides of direction), are shown by their names instead.
std::string escape(std::string_view text);

/// A table in a box of its own that scrolls where it is too wide. The first row are the heads of columns, the first
/// cell of each other row is its head. `name` says to those who cannot see it what it shows.
std::string table(const std::vector<std::vector<std::string>>& rows, std::string_view name);

}  // namespace molt::report
