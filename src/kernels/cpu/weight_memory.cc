#include "kernels/cpu/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>

#include "base/aligned_memory.h"

namespace molt {
namespace {

constexpr std::size_t kLargePage = std::size_t{1} << 21;
// Address space, not memory: pages exist once they are written.
constexpr std::size_t kChunk = std::size_t{64} << 20;

std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// An anonymous mapping, large enough to hold `size` bytes from an address that large pages may begin at.
class Chunk {
 public:
  explicit Chunk(std::size_t size) : mapped_(size + kLargePage), size_(size) {
    mapping_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED) throw std::bad_alloc();
    const std::size_t gap = -reinterpret_cast<std::uintptr_t>(mapping_) % kLargePage;
    data_ = static_cast<std::byte*>(mapping_) + gap;
#if defined(MADV_HUGEPAGE)
    ::madvise(data_, size, MADV_HUGEPAGE);  // a wish: the system may have none
#endif
  }
  ~Chunk() {
    ::munmap(mapping_, mapped_);
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  /// The next `bytes`, or null when they do not fit.
  std::byte* take(std::size_t bytes) {
    if (size_ - used_ < bytes) return nullptr;
    std::byte* piece = data_ + used_;
    used_ += bytes;
    return piece;
  }

 private:
  void* mapping_;
  std::size_t mapped_;
  std::byte* data_;
  std::size_t size_;
  std::size_t used_ = 0;
};

}  // namespace

std::shared_ptr<std::byte> allocate_weights(std::int64_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Chunk> filling;  // weak: the pieces alone own it
  const std::size_t size = round_up(std::max<std::size_t>(static_cast<std::size_t>(bytes), 1), kCacheLine);
  const std::lock_guard lock(mutex);
  std::shared_ptr<Chunk> chunk = filling.lock();
  std::byte* piece = chunk == nullptr ? nullptr : chunk->take(size);
  if (piece == nullptr) {
    chunk = std::make_shared<Chunk>(std::max(kChunk, round_up(size, kLargePage)));
    piece = chunk->take(size);
    filling = chunk;
  }
  return {std::move(chunk), piece};
}

}  // namespace molt
