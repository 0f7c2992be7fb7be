// What a lane owns of a chunk of coded weights (coded_rows.h), and how it becomes operands of products.
//
// A Unit is as it lies in memory: load() reads it there; fetch() has it copied to a place in shared memory that is this
// lane's own (kCodeBytes, and kSides words, 32 apart), while the thread goes on, and take() reads it there. Where that
// of a chunk lies, the next chunk's lies 32 `Code`s and side_step() words behind. Its weights are taken four at a time,
// as the right operand of a step of 16 inputs on the tensor cores, in bfloat16 and exact: whole numbers of quantized
// weights, the weights themselves of pairs. What is then to be multiplied by is scale(half), the same for the eight
// weights of each half.
#pragma once

#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {

/// A matrix of coded weights, for kernels.
struct Coded {
  const std::byte* codes;
  const std::byte* side;
  int tiles, chunks, halves;

  explicit Coded(const CodedRows& w)
      : codes(w.codes()),
        side(w.side()),
        tiles(static_cast<int>(w.size().tiles())),
        chunks(static_cast<int>(w.size().chunks())),
        halves(w.size().halves) {}

  /// The number of a lane's share.
  __device__ std::int64_t lane(int tile, int chunk, int lane) const {
    return (static_cast<std::int64_t>(tile) * chunks + chunk) * 32 + lane;
  }
};

constexpr int kStepsAChunk = kLaneWeights / 4;

// Codes are loaded as what is used once (__ldcs): kept in the caches they cost half as much time again.

/// Has kBytes (4, 8 or 16) copied to shared memory while the thread goes on.
template <int kBytes>
__device__ inline void copy_ahead(void* to, const void* from) {
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from), "n"(kBytes)
                 : "memory");
  }
}

template <Coding kCoding>
struct Unit;

template <>
struct Unit<Coding::bytes> {
  static constexpr bool kScalesOutputs = true;  // once, when all is summed
  static constexpr bool kScalesHalves = false;
  using Code = uint4;
  static constexpr int kCodeBytes = 16, kSides = 0;
  Code codes{};

  __device__ void load(const Coded& w, int tile, int chunk, int lane) {
    codes = __ldcs(codes_of(w, tile, chunk, lane));
  }
  static __device__ void fetch(const Code* codes, const std::uint32_t* /*side*/, int /*halves*/, std::byte* to,
                               std::uint32_t* /*side_to*/) {
    copy_ahead<kCodeBytes>(to, codes);
  }
  __device__ void take(int /*halves*/, int /*lane*/, const std::byte* from, const std::uint32_t* /*side*/) {
    codes = *reinterpret_cast<const Code*>(from);
  }
  __device__ Narrow::Right step(int s, const unsigned* /*columns*/) const {
    const unsigned word = s == 0 ? codes.x : s == 1 ? codes.y : s == 2 ? codes.z : codes.w;
    return {{pair(word, 0x7440, 0x7441), pair(word, 0x7442, 0x7443)}};
  }

  static __device__ const Code* codes_of(const Coded& w, int tile, int chunk, int lane) {
    return reinterpret_cast<const Code*>(w.codes) + w.lane(tile, chunk, lane);
  }
  static __device__ const std::uint32_t* side_of(const Coded& /*w*/, int /*tile*/, int /*chunk*/, int /*lane*/) {
    return nullptr;
  }
  static __device__ int side_step(int /*halves*/) { return 0; }

 private:
  /// Bytes in the last places of 2^23 are whole numbers; less 128 they are so in bfloat16's 8 digits, too.
  static __device__ std::uint32_t pair(unsigned word, unsigned low, unsigned high) {
    constexpr float kOffset = 8388608 + 128;
    const float a = __uint_as_float(__byte_perm(word, 0x4b000000U, low)) - kOffset;
    const float b = __uint_as_float(__byte_perm(word, 0x4b000000U, high)) - kOffset;
    return __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
  }
};

template <>
struct Unit<Coding::nibbles> {
  static constexpr bool kScalesOutputs = false;
  static constexpr bool kScalesHalves = true;
  using Code = uint2;
  static constexpr int kCodeBytes = 8, kSides = 2;
  Code codes{};
  std::uint32_t grids[2]{};  // of this lane's output

  __device__ void load(const Coded& w, int tile, int chunk, int lane) {
    codes = __ldcs(codes_of(w, tile, chunk, lane));
    const std::uint32_t* const grid = side_of(w, tile, chunk, lane);
    grids[0] = grid[0];
    grids[1] = w.halves == 2 ? grid[kTileOutputs] : grids[0];
  }
  static __device__ void fetch(const Code* codes, const std::uint32_t* side, int halves, std::byte* to,
                               std::uint32_t* side_to) {
    copy_ahead<kCodeBytes>(to, codes);
    copy_ahead<4>(side_to, side);
    if (halves == 2) copy_ahead<4>(side_to + 32, side + kTileOutputs);
  }
  __device__ void take(int halves, int /*lane*/, const std::byte* from, const std::uint32_t* side) {
    codes = *reinterpret_cast<const Code*>(from);
    grids[0] = side[0];
    grids[1] = halves == 2 ? side[32] : grids[0];
  }
  __device__ Narrow::Right step(int s, const unsigned* /*columns*/) const {
    const unsigned word = (s < 2 ? codes.x : codes.y) >> (s % 2 * 8);
    return {{pair(word, grids[s / 2]), pair(word >> 4, grids[s / 2])}};
  }
  __device__ float scale(int half) const { return Narrow::low(grids[half]); }

  static __device__ const Code* codes_of(const Coded& w, int tile, int chunk, int lane) {
    return reinterpret_cast<const Code*>(w.codes) + w.lane(tile, chunk, lane);
  }
  static __device__ const std::uint32_t* side_of(const Coded& w, int tile, int chunk, int lane) {
    return reinterpret_cast<const std::uint32_t*>(w.side) +
           (static_cast<std::int64_t>(tile) * w.chunks + chunk) * w.halves * kTileOutputs + lane / 4;
  }
  static __device__ int side_step(int halves) { return halves * kTileOutputs; }

 private:
  /// A nibble in the last places of 128 is 128 + code; 128 + zero point is subtracted.
  static __device__ std::uint32_t pair(unsigned word, std::uint32_t grid) {
    const std::uint32_t both = (word & 0x000f000fU) | 0x43004300U, zero = __byte_perm(grid, 0, 0x3232);
    const __nv_bfloat162 value =
        __hsub2(reinterpret_cast<const __nv_bfloat162&>(both), reinterpret_cast<const __nv_bfloat162&>(zero));
    return reinterpret_cast<const std::uint32_t&>(value);
  }
};

template <>
struct Unit<Coding::pairs> {
  static constexpr bool kScalesOutputs = false;
  static constexpr bool kScalesHalves = false;
  using Code = uint4;
  static constexpr int kCodeBytes = 16, kSides = 1;
  Code codes{};
  std::uint32_t columns = 0;

  __device__ void load(const Coded& w, int tile, int chunk, int lane) {
    const std::int64_t at = w.lane(tile, chunk, lane);
    codes = __ldcs(reinterpret_cast<const uint4*>(w.codes) + at);
    columns = reinterpret_cast<const std::uint16_t*>(w.side)[at];
  }
  /// Two lanes' columns make the least that can be copied.
  static __device__ void fetch(const Code* codes, const std::uint32_t* side, int /*halves*/, std::byte* to,
                               std::uint32_t* side_to) {
    copy_ahead<kCodeBytes>(to, codes);
    copy_ahead<4>(side_to, side);
  }
  static __device__ const Code* codes_of(const Coded& w, int tile, int chunk, int lane) {
    return reinterpret_cast<const Code*>(w.codes) + w.lane(tile, chunk, lane);
  }
  static __device__ const std::uint32_t* side_of(const Coded& w, int tile, int chunk, int lane) {
    return reinterpret_cast<const std::uint32_t*>(w.side) + w.lane(tile, chunk, lane) / 2;
  }
  static __device__ int side_step(int /*halves*/) { return 16; }
  __device__ void take(int /*halves*/, int lane, const std::byte* from, const std::uint32_t* side) {
    codes = *reinterpret_cast<const Code*>(from);
    columns = side[0] >> (lane % 2 * 16);
  }
  __device__ Narrow::Right step(int s, const unsigned* table) const {
    const unsigned pair = s == 0 ? codes.x : s == 1 ? codes.y : s == 2 ? codes.z : codes.w;
    const unsigned selectors = table[columns >> (4 * s) & 7];
    return {{__byte_perm(pair, 0, selectors), __byte_perm(pair, 0, selectors >> 16)}};
  }
};

/// Fills `table` [8] of shared memory, which step() of pairs wants: for each code the bytes that columns 0 and 1 are
/// made of, and 2 and 3. By the first warp; to be followed by a barrier.
template <Coding kCoding>
__device__ void make_table(unsigned* table) {
  if constexpr (kCoding == Coding::pairs) {
    if (threadIdx.x >= 8) return;
    constexpr unsigned kNone = 0x44, kFirst = 0x10, kSecond = 0x32;  // bytes of a weight, or zeros
    unsigned bytes[4] = {kNone, kNone, kNone, kNone};
    const int code = static_cast<int>(threadIdx.x);
    int at = 0;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
#pragma unroll
      for (int b = a + 1; b < 4; ++b, ++at) {
        if (at == code) bytes[a] = kFirst, bytes[b] = kSecond;
      }
    }
    table[code] = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24;
  }
}

}  // namespace molt::cuda
