// Tile registers (Intel AMX): eight of 16 rows by 64 bytes, and the instructions that load, multiply and store them.
//
// A tile product C += A * B takes A by rows, and B in the order in which panels lie: row k of B holds four bytes of
// each of 16 outputs, a pair of bfloat16 or four codes. Shapes of the registers are a state of the thread, as their
// contents are: a Tiles sets them where a kernel begins and clears them where it ends, so that a thread between kernels
// has no tiles for the system to save when it switches, and no kernel finds another's shapes.
//
// By assembly, not by the compiler's intrinsics: GCC 12 takes ldtilecfg to read 8 bytes of the 64, and loads of tiles
// to read no memory at all, so that it drops or moves what was stored there before.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;  // of a row

/// The tile registers, shaped: 0 to 4, for C and the first of A, with `rows` rows of 64 bytes, the others with 16.
/// Where `depth` is less than 64, A's rows have that many bytes and B has a row for each four of them; A is 4 alone
/// then.
class Tiles {
 public:
  explicit Tiles(int rows, int depth = kTileBytes) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    for (int tile = 0; tile < 8; ++tile) {
      shapes.row_bytes[tile] = static_cast<uint16_t>(tile == 4 ? depth : kTileBytes);
      shapes.rows[tile] = static_cast<uint8_t>(tile <= 4 ? rows : depth / 4);
    }
    asm volatile("ldtilecfg %0" ::"m"(shapes));
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

/// Rows of 64 bytes, `stride` bytes apart.
template <int kTile>
[[gnu::always_inline]] static inline void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] static inline void store_tile(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] static inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

/// C += A * B in bfloat16: of each pair of k the products of even k are summed, and those of odd k, then both sums are
/// added to C; in float32 with subnormal numbers taken and given as zero.
template <int kC, int kA, int kB>
[[gnu::always_inline]] static inline void multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

/// C += A * B in integers, A's of signed bytes, B's of unsigned or signed ones.
template <int kC, int kA, int kB>
[[gnu::always_inline]] static inline void multiply_unsigned() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}
template <int kC, int kA, int kB>
[[gnu::always_inline]] static inline void multiply_signed() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

/// Calls body(Constant<i>{}) for i = 0 .. kCount - 1: registers are named when the code is compiled.
template <int kCount, int kFirst = 0, class Body>
[[gnu::always_inline]] static inline void unrolled(Body body) {
  if constexpr (kFirst < kCount) {
    body(Constant<kFirst>{});
    unrolled<kCount, kFirst + 1>(body);
  }
}

}  // namespace molt::MOLT_ISA
