#include "model/kv_blocks.h"

#include <cstring>

#include "base/aligned_memory.h"
#include "base/check.h"

namespace molt {

void KvBlocks::add(std::shared_ptr<std::byte> block) {
  pointers_.push_back(block.get());
  owners_.push_back(std::move(block));
}

void KvBlocks::reserve(std::int64_t tokens) {
  if (block_bytes_ == 0) return;
  while (static_cast<std::int64_t>(pointers_.size()) * kKvBlock < tokens) {
    const auto size = static_cast<std::size_t>(block_bytes_);
    std::shared_ptr<std::byte> block(static_cast<std::byte*>(allocate_aligned(size)), FreeAligned());
    std::memset(block.get(), 0, size);  // kernels look at whole blocks, and use the part that was written
    add(std::move(block));
  }
}

KvBlocks KvBlocks::copy(std::int64_t tokens) const {
  KvBlocks result(block_bytes_);
  if (block_bytes_ == 0) return result;
  const std::int64_t full = tokens / kKvBlock;
  MOLT_CHECK(tokens <= static_cast<std::int64_t>(pointers_.size()) * kKvBlock);
  for (std::int64_t i = 0; i < full; ++i) result.add(owners_[static_cast<std::size_t>(i)]);
  result.reserve(tokens);
  if (tokens > full * kKvBlock) {
    std::memcpy(result.pointers_.back(), pointers_[static_cast<std::size_t>(full)],
                static_cast<std::size_t>(block_bytes_));
  }
  return result;
}

}  // namespace molt
