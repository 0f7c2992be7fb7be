#include "compress/polish.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "compress/dense.h"
#include "compress/output_error.h"
#include "kernels/backend.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 64;  // rows a task

/// All rows on their way.
class Polishing {
 public:
  Polishing(const MatrixXd& weight, const Mask& mask, const MatrixXd& hessian, MatrixXd& weights)
      : weight_(weight),
        hessian_(hessian),
        weights_(weights),
        kept_((mask.array() == 0).cast<double>()),
        inverse_diagonal_(hessian.diagonal().cwiseInverse().transpose()),
        backend_(make_backend("cpu")),
        packed_(backend_->pack(to_tensor(hessian, DType::f32), DType::f32)),
        directions32_(Tensor::uninitialized(DType::f32, {weight.rows(), weight.cols()})),
        products32_(Tensor::uninitialized(DType::f32, {weight.rows(), weight.cols()})),
        residual_(weight.rows(), weight.cols()),
        direction_(weight.rows(), weight.cols()),
        moved_(weight.rows(), weight.cols()),
        error_(weight.rows()),
        slope_(weight.rows()),
        gain_(weight.rows()) {}

  /// Takes what the last round brought where it lessened the error, and stands ready for the next. Float64.
  void begin_round() {
    for_rows([this](Eigen::Index from, Eigen::Index count) {
      if (begun_) weights_.middleRows(from, count) += moved_.middleRows(from, count);
      const MatrixXd off = weight_.middleRows(from, count) - weights_.middleRows(from, count);
      const MatrixXd gradient = product(off, hessian_);
      for (Eigen::Index r = from; r < from + count; ++r) {
        const double error = off.row(r - from).dot(gradient.row(r - from));
        if (!begun_ || error <= error_(r)) {
          error_(r) = error;
          residual_.row(r) = gradient.row(r - from).cwiseProduct(kept_.row(r));
        } else {  // rounding errors have outgrown what was to be gained: the row is where it was, and stays there
          weights_.row(r) -= moved_.row(r);
          residual_.row(r).setZero();
        }
        direction_.row(r) = residual_.row(r).cwiseProduct(inverse_diagonal_);
        slope_(r) = residual_.row(r).dot(direction_.row(r));
      }
      moved_.middleRows(from, count).setZero();
    });
    begun_ = true;
  }

  /// One step of all rows; returns the largest gain of a row, as a share of its error.
  double step() {
    for_rows([this](Eigen::Index from, Eigen::Index count) {
      for (Eigen::Index i = from * direction_.cols(); i < (from + count) * direction_.cols(); ++i) {
        directions32_.as<float>()[i] = static_cast<float>(direction_.data()[i]);
      }
    });
    backend_->matmul(directions32_.matrix(), *packed_, nullptr, products32_.matrix());
    for_rows([this](Eigen::Index from, Eigen::Index count) {
      for (Eigen::Index r = from; r < from + count; ++r) step_row(r);
    });
    return gain_.maxCoeff();
  }

 private:
  template <class Body>
  void for_rows(Body body) {
    parallel_for(weight_.rows(), kBundle,
                 [&](std::int64_t begin, std::int64_t end) { body(Eigen::Index{begin}, Eigen::Index{end - begin}); });
  }

  void step_row(Eigen::Index r) {
    DescendingRow row{kept_.row(r).data(),
                      inverse_diagonal_.data(),
                      products32_.matrix().row(r),
                      residual_.row(r).data(),
                      direction_.row(r).data(),
                      moved_.row(r).data(),
                      weight_.cols(),
                      slope_(r)};
    const double gained = dense().descend(row);
    slope_(r) = row.slope;
    gain_(r) = error_(r) > 0 ? gained / error_(r) : 0;
  }

  const MatrixXd& weight_;
  const MatrixXd& hessian_;
  MatrixXd& weights_;
  MatrixXd kept_;  // 1 where a weight is kept, 0 elsewhere
  Eigen::RowVectorXd inverse_diagonal_;
  std::shared_ptr<const Backend> backend_;
  std::unique_ptr<PackedMatrix> packed_;  // H
  Tensor directions32_, products32_;
  MatrixXd residual_;   // (w - v) H at the kept weights
  MatrixXd direction_;  // of the next step
  MatrixXd moved_;      // of the round so far
  bool begun_ = false;
  Eigen::VectorXd error_;
  Eigen::VectorXd slope_;  // residual, by itself and the preconditioner
  Eigen::VectorXd gain_;
};

}  // namespace

void polish(const MatrixXd& weight, const Mask& mask, const MatrixXd& hessian, const PolishOptions& options,
            MatrixXd& weights) {
  MOLT_CHECK(weight.rows() == weights.rows() && weight.cols() == weights.cols() && weight.cols() == hessian.rows());
  if (weight.rows() == 0 || options.rounds < 1) return;
  Polishing polishing(weight, mask, hessian, weights);
  for (int round = 0; round < options.rounds; ++round) {
    polishing.begin_round();
    for (int i = 0; i < options.steps; ++i) {
      if (polishing.step() < options.least_gain) break;
    }
  }
  polishing.begin_round();
}

}  // namespace molt
