// Moments: the second moments of a matrix's inputs over calibration text, H = sum of x x' over its rows.
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

class Moments {
 public:
  /// Of inputs of `width` columns; all zero.
  explicit Moments(std::int64_t width);

  /// Adds the rows of x [T, width]. The same bits for any number of threads.
  void add(Matrix<const float> x, const Backend& backend);

  std::int64_t width() const { return width_; }

  /// Rows that were added.
  std::int64_t rows() const { return rows_; }

  /// H [width, width], symmetric.
  Matrix<const double> products() const { return {products_.as<double>(), width_, width_}; }

  /// sqrt(H_jj), the norm of each column of the inputs: [width].
  std::vector<double> norms() const;

 private:
  std::int64_t width_;
  std::int64_t rows_ = 0;
  Tensor products_;  // f64 [width, width]
};

}  // namespace molt
