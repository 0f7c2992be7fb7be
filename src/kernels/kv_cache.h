// Where attention keeps the keys and values of earlier tokens: in blocks of 64 tokens, whatever the sequence's length.
//
// A block of memory holds 64 tokens in all layers; a layer's part of it, in float32:
//   keys   [heads, head_dim, 64]   tokens side by side: a product with a row's query is one row of scores
//   values [heads, 64, head_dim]   channels side by side: a product with a row of weights is one row of outputs
// and some floats more, which vectors may read beyond the end. docs/decisions/kv-cache.md says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace molt {

/// Tokens of a block.
inline constexpr std::int64_t kKvBlock = 64;

/// The keys and values of one token in one layer.
struct KvShape {
  std::int64_t heads = 0;     // G; 0: the layer keeps none
  std::int64_t head_dim = 0;  // P

  std::int64_t channels() const { return heads * head_dim; }

  // Elements of a layer's part of a block. `token`: within the block.
  std::int64_t key(std::int64_t head, std::int64_t channel, std::int64_t token) const {
    return (head * head_dim + channel) * kKvBlock + token;
  }
  std::int64_t value(std::int64_t head, std::int64_t channel, std::int64_t token) const {
    return channels() * kKvBlock + (head * kKvBlock + token) * head_dim + channel;
  }

  /// Bytes of a layer's part of a block, a multiple of a cache line.
  std::int64_t block_bytes() const {
    constexpr std::int64_t kBeyond = 16;  // floats
    const std::int64_t floats = heads == 0 ? 0 : 2 * channels() * kKvBlock + kBeyond;
    return (floats * static_cast<std::int64_t>(sizeof(float)) + 63) / 64 * 64;
  }
};

/// What one sequence keeps in one layer.
struct KvSequence {
  std::span<std::byte* const> blocks;  // enough for all tokens, those of the call among them
  std::int64_t offset = 0;             // bytes from a block's beginning to the layer's part
  std::int64_t tokens = 0;             // held before the call

  float* block(std::int64_t i) const { return reinterpret_cast<float*>(blocks[static_cast<std::size_t>(i)] + offset); }
};

}  // namespace molt
