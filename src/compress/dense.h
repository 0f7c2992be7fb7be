// dense(): float64 linear algebra by the instruction set of this machine, and the way there from Eigen's matrices.
//
// The one that kernels/cpu/select.h chose, or the best below it that there is. Thread-safe.
#pragma once

#include <type_traits>

#include "compress/inverse_factor.h"
#include "compress/isa/dense.h"

namespace molt {

const DenseKernels& dense();

/// A matrix, or a block of one, in rows; it must outlive what is returned.
template <class M>
DenseRows rows_of(const M& matrix) {
  static_assert(M::IsRowMajor && (M::Flags & Eigen::DirectAccessBit) != 0);
  return {matrix.data(), matrix.rows(), matrix.cols(), matrix.outerStride()};
}

template <class M>
MutableDenseRows mutable_rows_of(M&& matrix) {
  static_assert(std::remove_reference_t<M>::IsRowMajor);
  return {matrix.data(), matrix.rows(), matrix.cols(), matrix.outerStride()};
}

/// a b
template <class A, class B>
MatrixXd product(const A& a, const B& b) {
  MatrixXd result = MatrixXd::Zero(a.rows(), b.cols());
  dense().add_product(rows_of(a), rows_of(b), 1, mutable_rows_of(result));
  return result;
}

}  // namespace molt
