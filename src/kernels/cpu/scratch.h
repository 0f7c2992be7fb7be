// Scratch: memory for one call, kept for the next. Meant to be thread_local; not thread-safe.
#pragma once

#include <cstdint>

#include "base/aligned_memory.h"

namespace molt {

class Scratch {
 public:
  /// At least `count` floats, 64-byte aligned, of unspecified values; valid until the next call.
  float* get(std::int64_t count) {
    if (count > capacity_) {
      capacity_ = 0;
      data_.reset();
      data_ = allocate_floats(count);
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  AlignedFloats data_;
  std::int64_t capacity_ = 0;
};

}  // namespace molt
