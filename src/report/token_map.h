// TokenMap: a passage with what each method did to its tokens: who left behind which block, how, and into whom.
//
// Tokens are coloured by the block behind which they first left and marked by how they did, so that a reader sees what
// a method throws away, without colours, too. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/passage.h"
#include "molt/tokenizer.h"

namespace molt::report {

/// A token as it is shown.
struct MapToken {
  std::string text;      // whole characters: those that begin in this token
  bool goes_on = false;  // nothing but the rest of a character that an earlier token began
  bool special = false;
};

/// Tokens as they are shown, by their bytes: a character that is spread over several belongs to the one that begins it;
/// bytes that are no UTF-8 become U+FFFD.
std::vector<MapToken> spell(std::span<const std::string_view> tokens);

/// The same of a tokenizer's tokens. Throws Error for an id that names no token.
std::vector<MapToken> spell(const Tokenizer& tokenizer, std::span<const TokenId> ids);

struct TokenMap {
  std::vector<MapToken> tokens;
  std::int64_t layers = 0;
  std::vector<eval::PassageReading> readings;  // of this passage, reduced
};

/// The colours of layers, as CSS: light pages paint early ones darkest, dark pages brightest.
std::string layer_styles(std::int64_t layers);

/// The map, with a selector among settings, a legend and the tokens that run each block; "" without readings. Of long
/// passages the two ends are shown, and it says so.
std::string to_html(const TokenMap& map);

}  // namespace molt::report
