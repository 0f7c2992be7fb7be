// The input of a fuzz target in a buffer of exactly its size, so that every read beyond it is seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace molt {

class FuzzBytes {
 public:
  FuzzBytes(const std::uint8_t* data, std::size_t size)
      : data_(new std::byte[size], std::default_delete<std::byte[]>()), size_(size) {
    std::copy_n(reinterpret_cast<const std::byte*>(data), size, data_.get());
  }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::shared_ptr<const void> owner() const { return data_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t size_;
};

/// Reads every byte of the tensors: that is what their shapes promise.
inline void touch(const std::map<std::string, Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    volatile std::byte sum{};
    for (std::int64_t i = 0; i < tensor.bytes(); ++i) sum = sum ^ tensor.data()[i];
  }
}

}  // namespace molt
