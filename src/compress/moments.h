// InputMoments: the second moments of a matrix's inputs over calibration text, H = sum of x x' over its rows x.
//
// With W [out, in] replaced by Q, the sum of squared errors of the outputs over the text is tr((W - Q) H (W - Q)'):
// all that layer-wise compression needs to know of the text. Sums run in float32 within chunks of 2048 rows (an error
// of some 1e-6 of the diagonal) and in float64 across them. Memory: in^2 doubles. Used by one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "tensor/tensor.h"

namespace molt {

struct InputMoments {
  std::int64_t rows = 0;  // inputs seen
  Tensor second;          // H: f64 [K, K], symmetric

  InputMoments() = default;

  /// Of inputs of `width` columns; all zero.
  explicit InputMoments(std::int64_t width) : second(Tensor::zeros(DType::f64, {width, width})) {}

  /// Adds the rows of x [T, K]. The same bits for any number of threads.
  void add(Matrix<const float> x, const Backend& backend);

  std::int64_t width() const { return second.shape()[0]; }
  Matrix<const double> products() const { return {second.as<double>(), width(), width()}; }

  /// sqrt(H_kk), the norm of each column of the inputs: [K].
  std::vector<double> norms() const;
};

}  // namespace molt
