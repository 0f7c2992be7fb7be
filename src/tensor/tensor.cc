#include "tensor/tensor.h"

#include <cstring>

#include "base/aligned_memory.h"
#include "base/fail.h"

namespace molt {
namespace {

template <class T>
float load_as_float(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<float>(value);
  } else {
    return value.to_float();
  }
}

template <class Store>
void for_each_as_float(const Tensor& tensor, Store store) {
  const std::byte* data = tensor.data();
  const std::int64_t n = tensor.size();
  auto loop = [&]<class T>(T) {
    for (std::int64_t i = 0; i < n; ++i) store(i, load_as_float<T>(data + i * static_cast<std::int64_t>(sizeof(T))));
  };
  switch (tensor.dtype()) {
    case DType::f32: return loop(float{});
    case DType::f64: return loop(double{});
    case DType::bf16: return loop(BFloat16{});
    case DType::f16: return loop(Float16{});
    default: fail("a tensor of dtype {} cannot be used as floating point", name_of(tensor.dtype()));
  }
}

}  // namespace

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

Tensor Tensor::uninitialized(DType dtype, Shape shape) {
  const auto bytes = static_cast<std::size_t>(element_count(shape) * size_of(dtype));
  auto* data = static_cast<std::byte*>(allocate_aligned(bytes));
  return {dtype, std::move(shape), data, std::shared_ptr<void>(data, FreeAligned())};
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Tensor result = uninitialized(dtype, std::move(shape));
  std::memset(result.data(), 0, static_cast<std::size_t>(result.bytes()));
  return result;
}

Tensor Tensor::clone() const {
  Tensor result = uninitialized(dtype_, shape_);
  if (bytes() > 0) std::memcpy(result.data(), data_, static_cast<std::size_t>(bytes()));
  return result;
}

Matrix<float> Tensor::matrix() const {
  MOLT_CHECK(!shape_.empty());
  const std::int64_t cols = shape_.back();
  return {as<float>(), cols == 0 ? 0 : size() / cols, cols};
}

Tensor Tensor::to_f32() const {
  Tensor result = uninitialized(DType::f32, shape_);
  auto* out = result.as<float>();
  for_each_as_float(*this, [out](std::int64_t i, float value) { out[i] = value; });
  return result;
}

Tensor Tensor::to_bf16() const {
  Tensor result = uninitialized(DType::bf16, shape_);
  auto* out = result.as<BFloat16>();
  for_each_as_float(*this, [out](std::int64_t i, float value) { out[i] = BFloat16::from_float(value); });
  return result;
}

}  // namespace molt
