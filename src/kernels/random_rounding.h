// Random rounding to bfloat16: to one of the two neighbours, the nearer the likelier, so that the mean is the value.
//
// A state is rounded after every token. To nearest, whatever a token changes by less than half a place is lost each
// time: what decays slowly never decays. At random the changes survive on average. The random numbers follow from a
// key (of the token and layer) and the element's place alone, so that a text yields the same bits every time.
//
// Each column of a state draws a number, well mixed; down the column it goes on by a constant step (a Weyl sequence).
// An element's numbers are independent from token to token, which is what its sum over tokens needs; those of one
// token down a column spread evenly, and cost one addition each.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/dtype.h"

namespace molt {

/// The state of one sequence in one layer in bfloat16.
struct RoundedState {
  BFloat16* data = nullptr;
  std::uint32_t key = 0;  // of the rounding at the end of the call
};

/// What all elements of `column` (the channel, of all heads') have in common.
constexpr std::uint32_t rounding_column(std::uint32_t key, std::uint32_t column) {
  std::uint32_t x = column * 0x9e3779b1U + key;
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

/// 16 random bits for the element at `row` (one of the states) of the column.
constexpr std::uint32_t rounding_bits(std::uint32_t column, std::uint32_t row) {
  return (column + row * 0x9e3779b1U) >> 16;
}
constexpr std::uint32_t rounding_bits(std::uint32_t key, std::uint32_t column, std::uint32_t row) {
  return rounding_bits(rounding_column(key, column), row);
}

/// What bfloat16 holds exactly stays what it is, and so do infinities and quiet NaNs.
inline BFloat16 round_at_random(float value, std::uint32_t key, std::uint32_t column, std::uint32_t row) {
  const std::uint32_t random = std::isnan(value) ? 0 : rounding_bits(key, column, row);
  return {static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + random) >> 16)};
}

}  // namespace molt
