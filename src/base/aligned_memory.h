// Memory that begins at a cache line, for vectors of floats. Thread-safe.
//
// Over std::malloc rather than std::aligned_alloc: the latter of glibc before 2.38 does not use again the large blocks
// that it gave out and took back, so that a program that allocates a few megabytes now and then grows without bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace molt {

inline constexpr std::size_t kCacheLine = 64;

/// `bytes` bytes of unspecified values; give them back with free_aligned. Throws std::bad_alloc.
inline void* allocate_aligned(std::size_t bytes) {
  std::size_t space = bytes + kCacheLine;
  void* const block = std::malloc(sizeof(void*) + space);
  if (block == nullptr) throw std::bad_alloc();
  void* data = static_cast<void**>(block) + 1;
  std::align(kCacheLine, bytes, data, space);
  static_cast<void**>(data)[-1] = block;  // in front of the data, where free_aligned finds it
  return data;
}

/// `data` from allocate_aligned, or null.
inline void free_aligned(void* data) {
  if (data != nullptr) std::free(static_cast<void**>(data)[-1]);
}

struct FreeAligned {
  void operator()(void* data) const { free_aligned(data); }
};

using AlignedFloats = std::unique_ptr<float[], FreeAligned>;

inline AlignedFloats allocate_floats(std::int64_t count) {
  return AlignedFloats(static_cast<float*>(allocate_aligned(static_cast<std::size_t>(count) * sizeof(float))));
}

}  // namespace molt
