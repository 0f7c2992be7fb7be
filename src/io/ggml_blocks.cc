// The block formats. Each function opens with its block's layout; d and m are half-precision floats, q an element.
//
// The "k" formats have blocks of 256 elements in groups of 16 or 32. Each group has a scale (and a minimum) of its own,
// a small integer that multiplies the block's d (and dmin).
#include "io/ggml_blocks.h"

#include <array>
#include <cstring>

#include "tensor/dtype.h"

namespace molt::ggml {
namespace {

constexpr int kSmall = 32;   // elements of a block of the plain formats
constexpr int kLarge = 256;  // and of a "k" format

/// The bytes of one block, read as what they stand for.
struct Bytes {
  const std::byte* at;

  int byte(int i) const { return std::to_integer<int>(at[i]); }
  int signed_byte(int i) const { return static_cast<std::int8_t>(byte(i)); }
  int low(int i) const { return byte(i) & 15; }
  int high(int i) const { return byte(i) >> 4; }
  /// Nibble `half` (0 low, 1 high) of byte i.
  int nibble(int i, int half) const { return byte(i) >> (4 * half) & 15; }
  int bits(int i, int shift, int mask) const { return byte(i) >> shift & mask; }
  std::uint32_t word(int i) const {
    return static_cast<std::uint32_t>(byte(i)) | static_cast<std::uint32_t>(byte(i + 1)) << 8;
  }
  float half(int i) const { return Float16{static_cast<std::uint16_t>(word(i))}.to_float(); }
};

/// Calls block(Bytes, out) for each block of `bytes` bytes and `elements` elements.
template <class Block>
void for_each_block(const std::byte* in, std::int64_t blocks, int bytes, int elements, float* out, Block block) {
  for (std::int64_t i = 0; i < blocks; ++i) block(Bytes{in + i * bytes}, out + i * elements);
}

/// The scale and the minimum of group `g` of eight, six bits each, as q4_k and q5_k pack them into 12 bytes at `at`:
/// the first four of each in the low bits of bytes 0-3 and 4-7, whose high bits complete the others in bytes 8-11.
struct ScaleAndMinimum {
  float scale;
  float minimum;
};
ScaleAndMinimum scale_and_minimum(Bytes block, int at, int g) {
  if (g < 4) {
    return {static_cast<float>(block.byte(at + g) & 63), static_cast<float>(block.byte(at + g + 4) & 63)};
  }
  const int scale = block.low(at + g + 4) | (block.byte(at + g - 4) >> 2 & 0x30);
  const int minimum = block.high(at + g + 4) | (block.byte(at + g) >> 2 & 0x30);
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

/// The levels of the "nl" formats, closer to each other around zero.
constexpr std::array<float, 16> kLevels = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace

// d, 16 bytes: elements 0-15 in the low nibbles, 16-31 in the high ones; d * (q - 8).
void dequantize_q4_0(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 18, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    for (int i = 0; i < kSmall; ++i) y[i] = d * static_cast<float>(block.nibble(2 + i % 16, i / 16) - 8);
  });
}

// d, m, 16 bytes as q4_0's; d * q + m.
void dequantize_q4_1(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 20, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    const float m = block.half(2);
    for (int i = 0; i < kSmall; ++i) y[i] = d * static_cast<float>(block.nibble(4 + i % 16, i / 16)) + m;
  });
}

// d, 32 fifth bits, 16 bytes as q4_0's; d * (q - 16).
void dequantize_q5_0(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 22, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    for (int i = 0; i < kSmall; ++i) {
      const int q = block.nibble(6 + i % 16, i / 16) | block.bits(2 + i / 8, i % 8, 1) << 4;
      y[i] = d * static_cast<float>(q - 16);
    }
  });
}

// d, m, 32 fifth bits, 16 bytes as q4_0's; d * q + m.
void dequantize_q5_1(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 24, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    const float m = block.half(2);
    for (int i = 0; i < kSmall; ++i) {
      const int q = block.nibble(8 + i % 16, i / 16) | block.bits(4 + i / 8, i % 8, 1) << 4;
      y[i] = d * static_cast<float>(q) + m;
    }
  });
}

// d, 32 signed bytes; d * q.
void dequantize_q8_0(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 34, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    for (int i = 0; i < kSmall; ++i) y[i] = d * static_cast<float>(block.signed_byte(2 + i));
  });
}

// 16 bytes of scales (low nibble) and minima (high) of groups of 16, 64 bytes of two-bit elements, d, dmin. Of each
// half of 128 elements, 32 bytes hold elements l, l + 32, l + 64, l + 96 from the low bits up.
void dequantize_q2_k(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 84, kLarge, out, [](Bytes block, float* y) {
    const float d = block.half(80);
    const float dmin = block.half(82);
    for (int i = 0; i < kLarge; ++i) {
      const float scale = d * static_cast<float>(block.low(i / 16));
      const float minimum = dmin * static_cast<float>(block.high(i / 16));
      const int q = block.bits(16 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 3);
      y[i] = scale * static_cast<float>(q) - minimum;
    }
  });
}

// 32 bytes of third bits (bit k of byte l: element 32 k + l), 64 bytes of the lower two as q2_k's, 16 scales of six
// bits in 12 bytes (eight low nibbles, eight high ones, then the upper bits by twos), d. A third bit that is not set
// takes 4.
void dequantize_q3_k(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 110, kLarge, out, [](Bytes block, float* y) {
    const float d = block.half(108);
    std::array<float, 16> scales{};
    for (int s = 0; s < 16; ++s) {
      const int scale = block.nibble(96 + s % 8, s / 8) | block.bits(104 + s % 4, s / 4 * 2, 3) << 4;
      scales[static_cast<std::size_t>(s)] = d * static_cast<float>(scale - 32);
    }
    for (int i = 0; i < kLarge; ++i) {
      const int low = block.bits(32 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 3);
      const int q = block.bits(i % 32, i / 32, 1) != 0 ? low : low - 4;
      y[i] = scales[static_cast<std::size_t>(i / 16)] * static_cast<float>(q);
    }
  });
}

// d, dmin, 12 bytes of scales and minima of groups of 32, 128 bytes: each 32 of them hold one group in their low
// nibbles and the next in their high ones.
void dequantize_q4_k(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 144, kLarge, out, [](Bytes block, float* y) {
    for (int g = 0; g < 8; ++g) {
      const auto [scale, minimum] = scale_and_minimum(block, 4, g);
      const float d = block.half(0) * scale;
      const float m = block.half(2) * minimum;
      for (int l = 0; l < 32; ++l) {
        y[g * 32 + l] = d * static_cast<float>(block.nibble(16 + g / 2 * 32 + l, g % 2)) - m;
      }
    }
  });
}

// As q4_k, with 32 bytes of fifth bits (bit g of byte l: element l of group g) before the nibbles.
void dequantize_q5_k(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 176, kLarge, out, [](Bytes block, float* y) {
    for (int g = 0; g < 8; ++g) {
      const auto [scale, minimum] = scale_and_minimum(block, 4, g);
      const float d = block.half(0) * scale;
      const float m = block.half(2) * minimum;
      for (int l = 0; l < 32; ++l) {
        const int q = block.nibble(48 + g / 2 * 32 + l, g % 2) | block.bits(16 + l, g, 1) << 4;
        y[g * 32 + l] = d * static_cast<float>(q) - m;
      }
    }
  });
}

// 128 bytes of low nibbles (of each half of 128 elements: 64 bytes, elements 0-63 low, 64-127 high), 64 bytes of upper
// two bits (of each half: 32 bytes, as q2_k's), 16 signed scales of groups of 16, d; d * scale * (q - 32).
void dequantize_q6_k(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 210, kLarge, out, [](Bytes block, float* y) {
    for (int i = 0; i < kLarge; ++i) {
      const int half = i / 128;
      const int low = block.nibble(half * 64 + i % 64, i % 128 / 64);
      const int high = block.bits(128 + half * 32 + i % 32, i % 128 / 32 * 2, 3);
      const float scale = block.half(208) * static_cast<float>(block.signed_byte(192 + i / 16));
      y[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  });
}

// As q4_0, but a nibble is the place of a level.
void dequantize_iq4_nl(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 18, kSmall, out, [](Bytes block, float* y) {
    const float d = block.half(0);
    for (int i = 0; i < kSmall; ++i) y[i] = d * kLevels[static_cast<std::size_t>(block.nibble(2 + i % 16, i / 16))];
  });
}

// d, upper two bits of eight scales (16 bits), their lower four (4 bytes), 8 groups of 32 elements as iq4_nl's.
void dequantize_iq4_xs(const std::byte* in, std::int64_t blocks, float* out) {
  for_each_block(in, blocks, 136, kLarge, out, [](Bytes block, float* y) {
    for (int g = 0; g < 8; ++g) {
      const int high = static_cast<int>(block.word(2) >> (2 * g) & 3U);
      const int scale = block.nibble(4 + g / 2, g % 2) | high << 4;
      const float d = block.half(0) * static_cast<float>(scale - 32);
      for (int l = 0; l < 32; ++l) {
        y[g * 32 + l] = d * kLevels[static_cast<std::size_t>(block.nibble(8 + g * 16 + l % 16, l / 16))];
      }
    }
  });
}

}  // namespace molt::ggml
