// What the readers of untrusted bytes share: overflow-checked sizes, little-endian loads, and safe quoting in messages.
//
// Thread-safety: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "tensor/tensor.h"

namespace molt {

/// `text` between backquotes, with bytes outside of printable ASCII escaped and the middle of a long text left out:
/// names from a file may hold anything and be of any length.
std::string quote(std::string_view text);

/// a * b, or nothing where that is not a std::int64_t. Neither may be negative.
std::optional<std::int64_t> checked_product(std::int64_t a, std::int64_t b);

/// Bytes of a contiguous tensor, or nothing when an extent is negative or the size overflows. Extents of zero do not
/// excuse an overflow among the others, so that the product may be taken in any order.
std::optional<std::int64_t> checked_bytes(const Shape& shape, DType dtype);

/// A view of `data` as a tensor that `owner` keeps alive, or, where `data` is not aligned for its elements, a copy.
/// Kernels read elements through typed pointers; files promise no alignment.
Tensor aligned_view(DType dtype, Shape shape, std::span<const std::byte> data, std::shared_ptr<const void> owner);

/// The little-endian integer at `offset`; the caller has checked that it lies within `bytes`.
template <class T>
requires std::is_unsigned_v<T> T load_little_endian(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(static_cast<T>(bytes[offset + i]) << (8 * i));
  return value;
}

}  // namespace molt
