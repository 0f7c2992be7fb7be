#include "compress/inverse_factor.h"

#include "base/fail.h"
#include "compress/dense.h"

namespace molt {

void check_finite(const InputMoments& inputs) {
  const Eigen::Map<const MatrixXd> products(inputs.second.as<double>(), inputs.width(), inputs.width());
  if (!products.allFinite()) {
    fail("the calibration met inputs that are not finite: the model, or what is left of it, overflows on this text");
  }
}

MatrixXd damped_hessian(const InputMoments& inputs, const std::vector<std::int64_t>& columns, double damping) {
  check_finite(inputs);
  const auto n = static_cast<Eigen::Index>(columns.size());
  const Matrix<const double> products = inputs.products();
  MatrixXd hessian(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    const double* const row = products.row(columns[static_cast<std::size_t>(i)]);
    for (Eigen::Index j = 0; j < n; ++j) hessian(i, j) = row[columns[static_cast<std::size_t>(j)]];
  }
  const double mean = hessian.diagonal().mean();
  if (mean == 0) return MatrixXd::Identity(n, n);
  hessian.diagonal().array() += damping * mean;
  return hessian;
}

MatrixXd inverse_factor(MatrixXd& hessian) {
  const Eigen::Index n = hessian.rows();
  MatrixXd upper(n, n);
  double added = 1e-8 * hessian.diagonal().mean();
  for (int tries = 0; tries < 8; ++tries) {
    if (dense().inverse_factor(rows_of(hessian), mutable_rows_of(upper))) return upper;
    hessian.diagonal().array() += added;
    added *= 10;
  }
  fail("the second moments of the calibrated inputs cannot be inverted: calibrate on more text, or raise the damping");
}

}  // namespace molt
