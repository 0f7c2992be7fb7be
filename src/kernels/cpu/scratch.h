// Scratch: memory for one call, kept for the next. Meant to be thread_local; not thread-safe.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace molt {

class Scratch {
 public:
  /// At least `count` floats, 64-byte aligned, of unspecified values; valid until the next call.
  float* get(std::int64_t count) {
    if (count > capacity_) {
      capacity_ = 0;
      const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
      data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
  std::int64_t capacity_ = 0;
};

}  // namespace molt
