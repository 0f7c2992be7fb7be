#include <cstring>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Element i of an array that may lie at any address, as files promise no alignment.
float element(const std::byte* data, DType dtype, std::int64_t i) {
  const std::byte* at = data + i * size_of(dtype);
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return dtype == DType::f16 ? Float16{bits}.to_float() : BFloat16{bits}.to_float();
}

}  // namespace

void ReferenceBackend::embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) const {
  shapes::check_embed(table, ids, y);
  for (std::int64_t t = 0; t < y.rows; ++t) {
    const std::int64_t first = static_cast<std::int64_t>(ids[static_cast<std::size_t>(t)]) * y.cols;
    for (std::int64_t i = 0; i < y.cols; ++i) y(t, i) = element(table.data(), table.dtype(), first + i);
  }
}

}  // namespace molt
