#include "io/untrusted.h"

#include <fmt/format.h>

#include <cstring>

namespace molt {

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 160;
  std::string result = "`";
  const auto append = [&result](std::string_view part) {
    for (const char c : part) {
      if (c >= ' ' && c <= '~') {
        result += c;
      } else {
        result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    }
  };
  if (text.size() <= kShown) {
    append(text);
  } else {
    append(text.substr(0, kShown / 2));
    result += "...";
    append(text.substr(text.size() - kShown / 2));
  }
  return result + "`";
}

std::optional<std::int64_t> checked_product(std::int64_t a, std::int64_t b) {
  MOLT_CHECK(a >= 0 && b >= 0);
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

std::optional<std::int64_t> checked_bytes(const Shape& shape, DType dtype) {
  std::int64_t bytes = size_of(dtype);
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      empty = true;
      continue;
    }
    const auto product = checked_product(bytes, extent);
    if (!product) return std::nullopt;
    bytes = *product;
  }
  return empty ? 0 : bytes;
}

Tensor aligned_view(DType dtype, Shape shape, std::span<const std::byte> data, std::shared_ptr<const void> owner) {
  if (reinterpret_cast<std::uintptr_t>(data.data()) % static_cast<std::uintptr_t>(size_of(dtype)) == 0) {
    return {dtype, std::move(shape), const_cast<std::byte*>(data.data()), std::move(owner)};
  }
  Tensor copy = Tensor::zeros(dtype, std::move(shape));
  std::memcpy(copy.data(), data.data(), data.size());
  return copy;
}

}  // namespace molt
