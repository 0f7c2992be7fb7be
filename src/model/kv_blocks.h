// KvBlocks: the memory of one sequence's keys and values, which grows with its tokens (docs/decisions/kv-cache.md).
//
// Blocks of kKvBlock tokens in all layers. Tokens are only ever added, so a block that is full does not change any
// more: copies of a sequence share it. The last one, where tokens may still be added, is each copy's own. Not
// thread-safe; copies may be used on different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kv_cache.h"

namespace molt {

class KvBlocks {
 public:
  /// Of `block_bytes` each, 0 for a model that keeps no keys and values.
  explicit KvBlocks(std::int64_t block_bytes) : block_bytes_(block_bytes) {}

  /// Makes room for `tokens` in all, zeros where there was none. Throws std::bad_alloc.
  void reserve(std::int64_t tokens);

  /// The same first `tokens`, with room for no more than their blocks have.
  KvBlocks copy(std::int64_t tokens) const;

  std::span<std::byte* const> blocks() const { return pointers_; }

  /// Of all blocks, shared ones too.
  std::int64_t bytes() const { return static_cast<std::int64_t>(pointers_.size()) * block_bytes_; }

 private:
  void add(std::shared_ptr<std::byte> block);

  std::int64_t block_bytes_;
  std::vector<std::shared_ptr<std::byte>> owners_;
  std::vector<std::byte*> pointers_;
};

}  // namespace molt
