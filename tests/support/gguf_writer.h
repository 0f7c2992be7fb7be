// GgufWriter: GGUF files for tests, good ones and bad ones.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace molt::testing_support {

class GgufWriter {
 public:
  explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

  static std::string integer(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
    return text;
  }
  static std::string text(std::string_view value) { return integer(value.size(), 8) + std::string(value); }

  /// A key with the bytes of its type and value.
  GgufWriter& key(std::string_view name, std::string_view bytes) {
    keys_ += text(name) + std::string(bytes);
    ++key_count_;
    return *this;
  }
  GgufWriter& u32(std::string_view name, std::uint32_t value) { return key(name, integer(4, 4) + integer(value, 4)); }
  GgufWriter& f32(std::string_view name, float value) {
    return key(name, integer(6, 4) + integer(std::bit_cast<std::uint32_t>(value), 4));
  }
  GgufWriter& boolean(std::string_view name, bool value) {
    return key(name, integer(7, 4) + integer(value ? 1 : 0, 1));
  }
  GgufWriter& string(std::string_view name, std::string_view value) { return key(name, integer(8, 4) + text(value)); }
  GgufWriter& strings(std::string_view name, const std::vector<std::string>& values) {
    std::string bytes = integer(9, 4) + integer(8, 4) + integer(values.size(), 8);
    for (const std::string& value : values) bytes += text(value);
    return key(name, bytes);
  }
  GgufWriter& i32s(std::string_view name, const std::vector<std::int32_t>& values) {
    std::string bytes = integer(9, 4) + integer(5, 4) + integer(values.size(), 8);
    for (const std::int32_t value : values) bytes += integer(static_cast<std::uint32_t>(value), 4);
    return key(name, bytes);
  }

  /// A tensor of ggml's type number `type`, its outermost extent first.
  GgufWriter& tensor(std::string_view name, std::uint32_t type, const Shape& shape, std::string_view data) {
    return tensor_at(name, type, shape, data_.size(), data);
  }

  /// The same with an offset that may be wrong.
  GgufWriter& tensor_at(std::string_view name, std::uint32_t type, const Shape& shape, std::uint64_t offset,
                        std::string_view data) {
    tensors_ += text(name) + integer(shape.size(), 4);
    for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) {
      tensors_ += integer(static_cast<std::uint64_t>(*extent), 8);
    }
    tensors_ += integer(type, 4) + integer(offset, 8);
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    ++tensor_count_;
    return *this;
  }

  /// A float tensor as float32.
  GgufWriter& f32_tensor(std::string_view name, const Shape& shape, const Tensor& values) {
    const Tensor f32 = values.to_f32();
    return tensor(name, 0, shape, {reinterpret_cast<const char*>(f32.data()), static_cast<std::size_t>(f32.bytes())});
  }

  std::string bytes() const {
    std::string file = "GGUF" + integer(version_, 4) + integer(tensor_count_, 8) + integer(key_count_, 8) + keys_;
    file += tensors_;
    file.resize((file.size() + 31) / 32 * 32, '\0');
    return file + data_;
  }

 private:
  std::uint32_t version_;
  std::uint64_t key_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::string keys_;
  std::string tensors_;
  std::string data_;
};

}  // namespace molt::testing_support
