// The factor of an inverse Hessian by which layer-wise methods compensate the weights they round or remove.
//
// Pure functions. Eigen's dense matrices, float64.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "compress/moments.h"

namespace molt {

using MatrixXd = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Throws Error when moments are not finite.
void check_finite(const InputMoments& inputs);

/// H in the order of `columns` (H'[i, j] = H[columns[i], columns[j]]) with `damping` times the mean of its diagonal
/// added to the diagonal; the identity where H is zero. Throws Error when H is not finite, or not positive
/// semidefinite.
MatrixXd damped_hessian(const InputMoments& inputs, const std::vector<std::int64_t>& columns, double damping);

/// The upper triangular U with U' U = H^-1, for a positive definite H: U = R^-1 of the factorization H = R R' with
/// upper triangular R, that is, Cholesky's from the last column to the first. Where rounding errors make H indefinite,
/// more is added to its diagonal, which `hessian` keeps.
MatrixXd inverse_factor(MatrixXd& hessian);

}  // namespace molt
