// Where a scan's state lies: float32, or bfloat16 that is rounded at random (kernels/random_rounding.h). The scans'
// steps are written once, on either.
#pragma once

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

typedef uint16_t VecU16 __attribute__((vector_size(kLanes * 2)));
typedef uint16_t UnalignedVecU16 __attribute__((vector_size(kLanes * 2), aligned(1), may_alias));
typedef uint32_t VecU32 __attribute__((vector_size(kLanes * 4)));

/// 16-bit floats from any address, widened to 32 bits each; zeros behind the lanes asked for.
static inline VecU32 load_u16(const void* from, Whole) {
  return __builtin_convertvector(VecU16(*static_cast<const UnalignedVecU16*>(from)), VecU32);
}
static inline VecU32 load_u16(const void* from, int lanes) {
  VecU16 bits{};
  __builtin_memcpy(&bits, from, static_cast<uint64_t>(2 * lanes));
  return __builtin_convertvector(bits, VecU32);
}

/// The low halves.
static inline void store_u16(void* to, VecU32 v, Whole) {
  *static_cast<UnalignedVecU16*>(to) = __builtin_convertvector(v, VecU16);
}
static inline void store_u16(void* to, VecU32 v, int lanes) {
  const VecU16 bits = __builtin_convertvector(v, VecU16);
  __builtin_memcpy(to, &bits, static_cast<uint64_t>(2 * lanes));
}

/// A state in float32, from one element on.
struct FloatElements {
  float* data;

  FloatElements from(int64_t i) const { return {data + i}; }
  template <class Lanes>
  [[gnu::always_inline]] VecF get(int64_t i, Lanes lanes) const {
    return at(data + i, lanes);
  }
  template <class Lanes>
  [[gnu::always_inline]] void set(int64_t i, VecF v, Lanes lanes) const {
    put(data + i, v, lanes);
  }
};

/// A state in bfloat16, from one element on.
class RoundedElements {
 public:
  explicit RoundedElements(const RoundedElementsAt& at)
      : data_(at.data), counter_((reinterpret_cast<VecU32>(lane_numbers()) + at.first) * kWeyl + at.key) {}

  RoundedElements from(int64_t i) const { return {data_ + i, counter_ + static_cast<uint32_t>(i) * kWeyl}; }
  template <class Lanes>
  [[gnu::always_inline]] VecF get(int64_t i, Lanes lanes) const {
    return reinterpret_cast<VecF>(load_u16(data_ + i, lanes) << 16);
  }
  template <class Lanes>
  [[gnu::always_inline]] void set(int64_t i, VecF v, Lanes lanes) const {
    VecU32 x = counter_ + static_cast<uint32_t>(i) * kWeyl;
    x ^= x >> 16;
    const VecU32 random = (x * 0x7feb352dU) >> 16;
    const VecU32 bits = reinterpret_cast<VecU32>(v);
    const VecU32 quiet_nan = (bits >> 16) | 0x40U;
    store_u16(data_ + i, v == v ? (bits + random) >> 16 : quiet_nan, lanes);
  }

 private:
  static constexpr uint32_t kWeyl = 0x9e3779b1U;

  RoundedElements(uint16_t* data, VecU32 counter) : data_(data), counter_(counter) {}

  uint16_t* data_;
  VecU32 counter_;  // what rounding_bits() makes of each lane's number, before it mixes
};

template <int kCount, class State, class Lanes>
[[gnu::always_inline]] static inline Block<kCount> state_block(const State& state, int64_t i, Lanes lanes) {
  return Block<kCount>::map([&](int v) { return state.get(i + v * kLanes, lanes); });
}
template <int kCount, class State, class Lanes>
[[gnu::always_inline]] static inline void set_block(const State& state, int64_t i, const Block<kCount>& block,
                                                    Lanes lanes) {
  MOLT_UNROLL
  for (int v = 0; v < kCount; ++v) state.set(i + v * kLanes, block.v[v], lanes);
}

}  // namespace molt::MOLT_ISA
