// Where a scan's state lies: float32, or bfloat16 that is rounded at random (kernels/random_rounding.h). The scans'
// steps are written once, on either.
#pragma once

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec_narrow.h"

namespace molt::MOLT_ISA {

/// Rows of some columns of a state in float32. Columns and rows are those of random_rounding.h; a row's columns lie
/// side by side.
struct FloatElements {
  float* data;

  /// The columns from c on; the rest is for RoundedElements.
  FloatElements columns(int64_t c, int64_t /*count*/, uint32_t* /*draws*/) const { return {data + c}; }
  FloatElements row(int64_t n, int64_t stride) const { return {data + n * stride}; }
  template <class Lanes>
  [[gnu::always_inline]] VecF get(int64_t i, Lanes lanes) const {
    return at(data + i, lanes);
  }
  template <class Lanes>
  [[gnu::always_inline]] void set(int64_t i, VecF v, Lanes lanes) const {
    put(data + i, v, lanes);
  }

  /// Asks for memory that is needed later, column i: not here, where the processor's own fetching does better.
  [[gnu::always_inline]] void fetch(int64_t /*i*/) const {}
};

inline constexpr uint32_t kWeyl = 0x9e3779b1U;

/// What rounding_bits() draws for each of the columns from `first` on, before the row's share.
static inline VecU32 draw_columns(uint32_t key, uint32_t first) {
  VecU32 x = (reinterpret_cast<VecU32>(lane_numbers()) + first) * kWeyl + key;
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

/// The bits of bfloat16, of `draw` a column's number and its row's share.
[[gnu::always_inline]] static inline VecU32 round_at_random(VecF v, VecU32 draw) {
  const VecU32 is_number = reinterpret_cast<VecU32>(v == v);
  return (reinterpret_cast<VecU32>(v) + ((draw >> 16) & is_number)) >> 16;
}

/// The same of a state in bfloat16, rounded at random where it is set.
class RoundedElements {
 public:
  /// All rows and columns from the first on: columns() comes before all else.
  explicit RoundedElements(const RoundedElementsAt& at)
      : data_(at.data), key_(at.key), column_(at.column), row_(at.row * kWeyl), draws_(nullptr) {}

  /// The `count` columns from c on. `draws` has room for them, rounded up to whole vectors, and is filled.
  RoundedElements columns(int64_t c, int64_t count, uint32_t* draws) const {
    RoundedElements result = *this;
    result.data_ += c;
    result.column_ += static_cast<uint32_t>(c);
    result.draws_ = draws;
    for (int64_t i = 0; i < count; i += kLanes) {
      const VecU32 drawn = draw_columns(key_, result.column_ + static_cast<uint32_t>(i));
      __builtin_memcpy(draws + i, &drawn, sizeof(drawn));
    }
    return result;
  }
  [[gnu::always_inline]] RoundedElements row(int64_t n, int64_t stride) const {
    RoundedElements result = *this;
    result.data_ += n * stride;
    result.row_ += static_cast<uint32_t>(n) * kWeyl;
    return result;
  }
  template <class Lanes>
  [[gnu::always_inline]] VecF get(int64_t i, Lanes lanes) const {
    return reinterpret_cast<VecF>(load_u16(data_ + i, lanes) << 16);
  }
  template <class Lanes>
  [[gnu::always_inline]] void set(int64_t i, VecF v, Lanes lanes) const {
    VecU32 draw;
    __builtin_memcpy(&draw, draws_ + i, sizeof(draw));
    store_u16(data_ + i, round_at_random(v, draw + row_), lanes);
  }
  [[gnu::always_inline]] void fetch(int64_t i) const { __builtin_prefetch(data_ + i, 1); }

 private:
  uint16_t* data_;
  uint32_t key_;
  uint32_t column_;
  uint32_t row_;  // times kWeyl
  const uint32_t* draws_;
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
