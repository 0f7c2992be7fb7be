#include "compress/mask_refinement.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "compress/dense.h"
#include "compress/output_error.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 4;  // rows a task: each is much work

/// An exchange must lessen the error by more than this share of it, which rounding errors could feign.
constexpr double kLeastGain = 1e-9;

using Places = std::vector<Eigen::Index>;

struct Swap {
  double change = 0;  // of the error, negative
  Eigen::Index back = -1;
  Eigen::Index gone = -1;
};

/// The places of a row that may be exchanged for one another: its groups, or all of it.
struct Sides {
  Sides(const std::uint8_t* mask, const std::uint8_t* fixed, Eigen::Index begin, Eigen::Index end) {
    for (Eigen::Index i = begin; i < end; ++i) {
      if (mask[i] == 0) {
        kept.push_back(i);
      } else if (fixed[i] == 0) {
        removed.push_back(i);
      }
    }
  }
  Places removed, kept;
};

/// The best exchange of a row by change_of(removed place, kept place); body's change is 0 where none lessens the error.
template <class ChangeOf>
Swap best_swap(const std::uint8_t* mask, const std::uint8_t* fixed, Eigen::Index width, const Sparsity& sparsity,
               ChangeOf change_of) {
  Swap best;
  const Eigen::Index stride = sparsity.pattern() ? sparsity.of : width;
  for (Eigen::Index begin = 0; begin < width; begin += stride) {
    const Sides sides(mask, fixed, begin, std::min(begin + stride, width));
    for (const Eigen::Index back : sides.removed) {
      for (const Eigen::Index gone : sides.kept) {
        const double change = change_of(back, gone);
        if (change < best.change) best = {change, back, gone};
      }
    }
  }
  return best;
}

void exchange(const Swap& swap, std::uint8_t* mask) {
  mask[swap.back] = 0;
  mask[swap.gone] = 1;
}

/// A = A_BB after the removal of P, as an exchange of what is given for what follows: with column |B| for the weights,
///   P, P: [A_PP]^-1        P, K: [A_PP]^-1 A_PK          P, |B|: x = w_P [A_PP]^-1
///   K, P: -A_KP [A_PP]^-1  K, K: A_KK - A_KP [A_PP]^-1 A_PK   K, |B|: the compensated weights
/// Removing q then adds v_q^2 / M_qq to the error, bringing p back takes x_p^2 / M_pp from it.
class Tableau {
 public:
  Tableau(const MatrixXd& inverse, const Eigen::Ref<const Eigen::RowVectorXd>& weights, const std::uint8_t* mask)
      : width_(inverse.rows()), table_(width_, width_ + 1), scratch_(width_) {
    Places sides[2];
    for (Eigen::Index i = 0; i < width_; ++i) sides[mask[i]].push_back(i);
    const auto& [kept, removed] = sides;
    const Eigen::MatrixXd within = inverse(removed, removed);
    const Eigen::LLT<Eigen::MatrixXd> factor(within);
    const auto p = static_cast<Eigen::Index>(removed.size());
    const Eigen::MatrixXd inner = factor.solve(Eigen::MatrixXd::Identity(p, p));
    const Eigen::MatrixXd between = inverse(removed, kept);
    const Eigen::MatrixXd share = inner * between;
    const Eigen::MatrixXd rest = inverse(kept, kept) - between.transpose() * share;
    const Eigen::VectorXd given = weights(removed).transpose();
    const Eigen::VectorXd multipliers = factor.solve(given);
    table_(removed, removed) = inner;
    table_(removed, kept) = share;
    table_(kept, removed) = -share.transpose();
    table_(kept, kept) = rest;
    for (Eigen::Index i = 0; i < p; ++i) table_(removed[static_cast<std::size_t>(i)], width_) = multipliers(i);
    const Eigen::VectorXd left = weights(kept).transpose() - between.transpose() * multipliers;
    for (std::size_t i = 0; i < kept.size(); ++i) table_(kept[i], width_) = left(static_cast<Eigen::Index>(i));
    error_ = given.dot(multipliers);
  }

  double error() const { return error_; }

  /// Of the error when `back` comes back and `gone` goes.
  double change(Eigen::Index back, Eigen::Index gone) const {
    const double gain = table_(back, width_) / table_(back, back);
    const double bound = table_(back, gone) / table_(back, back);
    const double weight = table_(gone, width_) + gain * table_(back, gone);
    const double pivot = table_(gone, gone) + bound * table_(back, gone);
    return weight * weight / pivot - gain * table_(back, width_);
  }

  void apply(const Swap& swap) {
    turn(swap.back);
    turn(swap.gone);
    error_ += swap.change;
  }

 private:
  /// Removes place k, or brings it back.
  void turn(Eigen::Index k) { dense().turn_table(mutable_rows_of(table_), k, scratch_.data()); }

  Eigen::Index width_;
  MatrixXd table_;
  Eigen::VectorXd scratch_;
  double error_ = 0;
};

}  // namespace

Mask refine_removed(const MatrixXd& weights, const Eigen::Ref<const MatrixXd>& hessian, const Sparsity& sparsity,
                    Mask mask, int swaps) {
  const Mask zeros = zeros_of(weights);
  const Eigen::Index width = weights.cols();
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    for (Eigen::Index r = from; r < to; ++r) {
      const auto w = weights.row(r);
      std::uint8_t* const marks = mask.row(r).data();
      const Eigen::RowVectorXd gone = (mask.row(r).array() != 0).select(w, Eigen::RowVectorXd::Zero(width));
      Eigen::RowVectorXd slope = gone * hessian;
      double error = gone.dot(slope);
      for (int i = 0; i < swaps; ++i) {
        const Eigen::RowVectorXd adding =
            w.array() * (2 * slope.array() + w.array() * hessian.diagonal().transpose().array());
        const Eigen::RowVectorXd taking =
            w.array() * (w.array() * hessian.diagonal().transpose().array() - 2 * slope.array());
        const Swap swap =
            best_swap(marks, zeros.row(r).data(), width, sparsity, [&](Eigen::Index back, Eigen::Index other) {
              return taking(back) + adding(other) - 2 * w(back) * w(other) * hessian(back, other);
            });
        if (!(swap.change < -kLeastGain * error)) break;
        slope += w(swap.gone) * hessian.row(swap.gone) - w(swap.back) * hessian.row(swap.back);
        error += swap.change;
        exchange(swap, marks);
      }
    }
  });
  return mask;
}

Mask refine_compensated(const RemovalBlock& block, const MatrixXd& weights, const Sparsity& sparsity, const Mask& zeros,
                        Mask mask, int swaps) {
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    for (Eigen::Index r = from; r < to; ++r) {
      std::uint8_t* const marks = mask.row(r).data();
      Tableau tableau(block.inverse, weights.row(r), marks);
      for (int i = 0; i < swaps; ++i) {
        const Swap swap = best_swap(marks, zeros.row(r).data(), weights.cols(), sparsity,
                                    [&](Eigen::Index back, Eigen::Index gone) { return tableau.change(back, gone); });
        if (!(swap.change < -kLeastGain * tableau.error())) break;
        tableau.apply(swap);
        exchange(swap, marks);
      }
    }
  });
  return mask;
}

Tensor removed_as_they_are(const MatrixXd& weight, Mask mask, const InputMoments* inputs,
                           const PruneSettings& settings) {
  mask = mask.cwiseMax(zeros_of(weight));
  if (settings.refine > 0 && inputs != nullptr) {
    const Eigen::Map<const MatrixXd> hessian(inputs->second.as<double>(), weight.cols(), weight.cols());
    mask = refine_removed(weight, hessian, settings.sparsity, std::move(mask), settings.refine);
  }
  return to_tensor(masked(weight, mask), DType::f64);
}

}  // namespace molt
