// Tensor and Matrix: the two ways that molt holds numbers.
//
// Tensor is an n-dimensional, contiguous, row-major array with shared ownership of its bytes: a slice of a mapped file,
// or a buffer of its own. Copying one copies the handle. Tensors of a checkpoint are read-only by convention. Matrix<T>
// is a non-owning view of rows with a stride: what kernels work on. Both are cheap to copy and carry no lock:
// concurrent reads are fine, writes need the caller's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "tensor/dtype.h"

namespace molt {

using Shape = std::vector<std::int64_t>;

/// Product of the extents; 1 for a scalar.
std::int64_t element_count(const Shape& shape);

/// "[3, 4]".
std::string to_string(const Shape& shape);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};

/// A view of `rows` rows of `cols` contiguous elements, `stride` elements apart. T may be const.
template <class T>
struct Matrix {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  Matrix() = default;
  Matrix(T* data_, std::int64_t rows_, std::int64_t cols_) : Matrix(data_, rows_, cols_, cols_) {}
  Matrix(T* data_, std::int64_t rows_, std::int64_t cols_, std::int64_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}

  /// Matrix<T> converts to Matrix<const T>.
  operator Matrix<const T>() const  // NOLINT(google-explicit-constructor)
      requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }

  T* row(std::int64_t i) const { return data + i * stride; }
  T& operator()(std::int64_t i, std::int64_t j) const { return data[i * stride + j]; }

  Matrix row_range(std::int64_t begin, std::int64_t end) const {
    MOLT_CHECK(0 <= begin && begin <= end && end <= rows);
    return {data + begin * stride, end - begin, cols, stride};
  }
  Matrix col_range(std::int64_t begin, std::int64_t end) const {
    MOLT_CHECK(0 <= begin && begin <= end && end <= cols);
    return {data + begin, rows, end - begin, stride};
  }
  explicit operator bool() const { return data != nullptr; }
};

class Tensor {
 public:
  /// Holds nothing.
  Tensor() = default;

  /// A view of bytes that `owner` keeps alive. `data` need not be aligned (files promise nothing).
  Tensor(DType dtype, Shape shape, std::byte* data, std::shared_ptr<const void> owner)
      : dtype_(dtype), shape_(std::move(shape)), data_(data), owner_(std::move(owner)) {}

  /// A buffer of its own, 64-byte aligned, all zero.
  static Tensor zeros(DType dtype, Shape shape);

  /// The same, its contents left to chance.
  static Tensor uninitialized(DType dtype, Shape shape);

  /// A copy in a buffer of its own.
  Tensor clone() const;

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return element_count(shape_); }
  std::int64_t bytes() const { return size() * size_of(dtype_); }
  std::byte* data() const { return data_; }
  bool empty() const { return data_ == nullptr; }

  template <class T>
  T* as() const {
    MOLT_CHECK(DTypeOf<std::remove_const_t<T>>::value == dtype_);
    return reinterpret_cast<T*>(data_);
  }

  /// A 2-D float tensor as a matrix; of any other rank, all leading dimensions become rows.
  Matrix<float> matrix() const;

  /// A copy of its own with every element as float32. Source: f32, f16, bf16 or f64.
  Tensor to_f32() const;

  /// A copy of its own, rounded to bfloat16. Source: f32, f16 or bf16.
  Tensor to_bf16() const;

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

}  // namespace molt
