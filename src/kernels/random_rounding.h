// Random rounding to bfloat16: to one of the two neighbours, the nearer the likelier, so that the mean is the value.
//
// A state is rounded after every token. To nearest, whatever a token changes by less than half a place is lost each
// time: what decays slowly never decays. At random the changes survive on average. The random numbers follow from a
// key (of the token and layer) and the element's number alone, so that a text yields the same bits every time.
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

/// 16 random bits of element `i`.
inline std::uint32_t rounding_bits(std::uint32_t key, std::uint32_t i) {
  std::uint32_t x = i * 0x9e3779b1U + key;  // Weyl sequence, then mixed into its high half
  x ^= x >> 16;
  return (x * 0x7feb352dU) >> 16;
}

/// `value` as element `i` of a state. What bfloat16 holds exactly, infinities and NaNs stay what they are.
inline BFloat16 round_at_random(float value, std::uint32_t key, std::uint32_t i) {
  if (std::isnan(value)) return BFloat16::from_float(value);
  return {static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + rounding_bits(key, i)) >> 16)};
}

}  // namespace molt
