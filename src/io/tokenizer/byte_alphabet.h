// The byte alphabet of GPT-2: how tokenizer.json spells the 256 bytes as printable characters.
//
// The bytes '!'..'~', 0xA1..0xAC and 0xAE..0xFF stand for themselves as code points; the other 68, in order, are
// U+0100, U+0101, ... So a space is U+0120 ("Ġ"). Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace molt {

/// The character that spells `byte`, in UTF-8.
std::string spell_byte(unsigned char byte);

/// The bytes that `token` (valid UTF-8) spells, or nothing when it has a character outside the alphabet.
std::optional<std::string> unspell(std::string_view token);

}  // namespace molt
