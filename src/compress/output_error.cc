#include "compress/output_error.h"

#include <cmath>
#include <numeric>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "base/fail.h"
#include "base/parallel.h"
#include "compress/dense.h"
#include "tensor/half.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 64;  // rows that are multiplied together: fewer would pack the other factor too often

Eigen::Map<const MatrixXd> matrix_of(const InputMoments& inputs) {
  return {inputs.second.as<double>(), inputs.width(), inputs.width()};
}

template <class T>
MatrixXd widened(const Tensor& tensor) {
  MatrixXd matrix(tensor.shape()[0], tensor.shape()[1]);
  const T* const values = tensor.as<T>();
  for (Eigen::Index i = 0; i < matrix.size(); ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      matrix.data()[i] = static_cast<double>(values[i]);
    } else {
      matrix.data()[i] = static_cast<double>(values[i].to_float());
    }
  }
  return matrix;
}

template <class T>
T rounded(float value) {
  if constexpr (std::is_same_v<T, Float16>) {
    return round_to_f16(value);
  } else {
    return T::from_float(value);
  }
}

template <class T>
Tensor narrowed(const MatrixXd& matrix) {
  Tensor tensor = Tensor::uninitialized(DTypeOf<T>::value, {matrix.rows(), matrix.cols()});
  for (Eigen::Index i = 0; i < matrix.size(); ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      tensor.as<T>()[i] = static_cast<T>(matrix.data()[i]);
    } else {
      tensor.as<T>()[i] = rounded<T>(static_cast<float>(matrix.data()[i]));
    }
  }
  return tensor;
}

}  // namespace

MatrixXd to_matrix(const Tensor& tensor) {
  MOLT_CHECK(tensor.shape().size() == 2);
  switch (tensor.dtype()) {
    case DType::f64: return widened<double>(tensor);
    case DType::f32: return widened<float>(tensor);
    case DType::f16: return widened<Float16>(tensor);
    case DType::bf16: return widened<BFloat16>(tensor);
    default: MOLT_CHECK(false);
  }
}

Tensor to_tensor(const MatrixXd& matrix, DType dtype) {
  switch (dtype) {
    case DType::f64: return narrowed<double>(matrix);
    case DType::f32: return narrowed<float>(matrix);
    case DType::f16: return narrowed<Float16>(matrix);
    case DType::bf16: return narrowed<BFloat16>(matrix);
    default: MOLT_CHECK(false);
  }
}

double output_error(const MatrixXd& weight, const MatrixXd& changed, const Eigen::Ref<const MatrixXd>& hessian) {
  MOLT_CHECK(weight.rows() == changed.rows() && weight.cols() == changed.cols() && weight.cols() == hessian.rows());
  std::vector<double> errors(static_cast<std::size_t>(weight.rows()));
  parallel_for(weight.rows(), kBundle, [&](std::int64_t begin, std::int64_t end) {
    const MatrixXd difference = weight.middleRows(begin, end - begin) - changed.middleRows(begin, end - begin);
    const MatrixXd change = product(difference, hessian);
    for (std::int64_t r = begin; r < end; ++r) {
      errors[static_cast<std::size_t>(r)] = difference.row(r - begin).dot(change.row(r - begin));
    }
  });
  return std::accumulate(errors.begin(), errors.end(), 0.0);
}

double output_error(const Tensor& weight, const Tensor& changed, const InputMoments& inputs) {
  return output_error(to_matrix(weight), to_matrix(changed), matrix_of(inputs));
}

double squared_outputs(const Tensor& weight, const InputMoments& inputs) {
  const MatrixXd matrix = to_matrix(weight);
  return output_error(matrix, MatrixXd::Zero(matrix.rows(), matrix.cols()), matrix_of(inputs));
}

void check_finite(const MatrixXd& weight, const char* verb) {
  for (Eigen::Index i = 0; i < weight.size(); ++i) {
    if (std::isfinite(weight.data()[i])) continue;
    fail("the weight in row {}, column {} is {}: it cannot be {}", i / weight.cols(), i % weight.cols(),
         weight.data()[i], verb);
  }
}

}  // namespace molt
