// UTF-8: checking, stepping and repairing.
//
// "Valid" is well-formed in the sense of Unicode 15, section 3.9 (table 3-7): no overlong forms, no surrogates, nothing
// above U+10FFFF. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace molt::utf8 {

/// Whether valid text may hold this byte.
constexpr bool may_hold(unsigned byte) {
  return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
}

struct Decoded {
  std::uint32_t code_point;
  std::size_t length;  // bytes
};

/// The character at `text[at]`, which must be valid UTF-8 from there on.
inline Decoded decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// Where the character before `text[at]` starts; `text` is valid and at > 0.
inline std::size_t previous(std::string_view text, std::size_t at) {
  do {
    --at;
  } while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

/// How many bytes from `at` are ASCII.
std::size_t ascii_prefix(std::string_view text, std::size_t at);

struct Scan {
  std::size_t valid;  // bytes before the first ill-formed one; text.size() when there is none
  bool ascii;         // whether those bytes are all ASCII
};
Scan scan(std::string_view text);

/// Appends a code point (not a surrogate, at most U+10FFFF).
void append(std::uint32_t code_point, std::string& out);

/// Appends `bytes` to `out`, each maximal ill-formed part as one U+FFFD. Stops before an unfinished character at the
/// end and returns how many bytes it has read; with `final`, that rest becomes U+FFFD too and everything is read.
std::size_t append_lossy(std::string_view bytes, bool final, std::string& out);

}  // namespace molt::utf8
