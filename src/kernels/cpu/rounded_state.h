// States in bfloat16 as the inner loops take them, and to float32 and back for calls of several rows.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/isa/kernels.h"

namespace molt {

/// From element `first` on.
inline RoundedElementsAt elements_at(const RoundedState& state, std::int64_t first) {
  return {&state.data[first].bits, state.key, static_cast<std::uint32_t>(first)};
}

/// wide [n] = elements [first, first + n).
inline void widen(const Kernels& kernels, const RoundedState& state, std::int64_t first, std::int64_t n, float* wide) {
  kernels.bf16_to_f32(state.data + first, wide, n);
}

/// Elements [first, first + n) = wide [n], rounded at random.
inline void round_back(const Kernels& kernels, const float* wide, const RoundedState& state, std::int64_t first,
                       std::int64_t n) {
  kernels.round_state(wide, elements_at(state, first), n);
}

}  // namespace molt
