#include "compress/gptq.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/parallel.h"
#include "compress/code_descent.h"
#include "compress/dense.h"
#include "compress/grid_search.h"
#include "compress/inverse_factor.h"
#include "compress/output_error.h"

namespace molt {
namespace {

constexpr std::int64_t kBlock = 128;  // columns that are rounded before what lies behind them is compensated
constexpr std::int64_t kBundle = 16;  // rows that go through the columns together

/// The order in which columns are rounded: groups stay whole.
std::vector<std::int64_t> column_order(const InputMoments& inputs, std::int64_t group, bool by_activation) {
  const std::int64_t width = inputs.width();
  std::vector<std::int64_t> order(static_cast<std::size_t>(width));
  std::iota(order.begin(), order.end(), 0);
  if (!by_activation) return order;
  const Matrix<const double> h = inputs.products();
  std::vector<double> mean((static_cast<std::size_t>(width + group - 1) / static_cast<std::size_t>(group)), 0.0);
  for (std::int64_t k = 0; k < width; ++k) {
    const std::int64_t columns = std::min(group, width - k / group * group);
    mean[static_cast<std::size_t>(k / group)] += h(k, k) / static_cast<double>(columns);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto ga = static_cast<std::size_t>(a / group);
    const auto gb = static_cast<std::size_t>(b / group);
    if (ga != gb) return mean[ga] > mean[gb] || (mean[ga] == mean[gb] && ga < gb);
    return h(a, a) > h(b, b);
  });
  return order;
}

/// Runs of the order: whole groups of about kBlock columns, or parts of a group that is wider.
std::vector<std::int64_t> block_bounds(const std::vector<std::int64_t>& order, std::int64_t group) {
  const std::int64_t width = std::ssize(order);
  std::vector<std::int64_t> bounds{0};
  for (std::int64_t i = 1; i < width; ++i) {
    const bool group_begins =
        order[static_cast<std::size_t>(i)] / group != order[static_cast<std::size_t>(i - 1)] / group;
    if (i - bounds.back() >= kBlock && (group_begins || group > kBlock)) bounds.push_back(i);
  }
  bounds.push_back(width);
  return bounds;
}

/// One matrix on its way: rows are permuted, compensated and rounded bundle by bundle.
class Rounding {
 public:
  Rounding(const Tensor& weight, const QuantizedFormat& format, const InputMoments& inputs, const GptqOptions& options)
      : weight_(weight.to_f32()),
        group_(format.group_of(weight.shape()[1])),
        sweeps_(options.sweeps),
        order_(column_order(inputs, group_, options.by_activation)),
        bounds_(block_bounds(order_, group_)),
        hessian_(damped_hessian(inputs, order_, options.damping)),
        factor_(inverse_factor(hessian_)),
        result_(format, weight.shape()[0], weight.shape()[1]) {
    importance_ = factor_.diagonal().array().square().inverse();
  }

  QuantizedMatrix run() {
    parallel_for(result_.out_features(), kBundle, [&](std::int64_t begin, std::int64_t end) { round(begin, end); });
    return result_;
  }

 private:
  int bits() const { return result_.format.bits; }

  void round(std::int64_t first, std::int64_t end) {
    const auto rows = static_cast<Eigen::Index>(end - first);
    const Eigen::Index width = factor_.rows();
    MatrixXd weights(rows, width);
    for (Eigen::Index r = 0; r < rows; ++r) {
      const float* const row = weight_.matrix().row(first + r);
      for (Eigen::Index i = 0; i < width; ++i) weights(r, i) = row[order_[static_cast<std::size_t>(i)]];
    }
    RoundedRows rounded(rows, width, order_, group_, bits());
    MatrixXd rest = weights;
    for (std::size_t b = 0; b + 1 < bounds_.size(); ++b) {
      const Eigen::Index begin = bounds_[b];
      const Eigen::Index stop = bounds_[b + 1];
      MatrixXd errors(rows, stop - begin);
      for (Eigen::Index r = 0; r < rows; ++r) round_block(weights, rest, r, begin, stop, rounded, errors);
      dense().add_product(rows_of(errors), rows_of(factor_.block(begin, stop, stop - begin, width - stop)), -1,
                          mutable_rows_of(rest.rightCols(width - stop)));
    }
    for (int sweep = 0; sweep < sweeps_; ++sweep) {
      if (!descend(weights, hessian_, rounded)) break;
    }
    rounded.store(first, result_);
  }

  /// What columns [begin, begin + size) of a row should be: the weights as compensated, or 0 where they are to stay so.
  static Eigen::RowVectorXd wanted(const MatrixXd& weights, const MatrixXd& rest, Eigen::Index r, Eigen::Index begin,
                                   Eigen::Index size) {
    return (weights.row(r).segment(begin, size).array() == 0)
        .select(Eigen::RowVectorXd::Zero(size), rest.row(r).segment(begin, size));
  }

  /// Rounds columns [begin, stop) of one row; errors: what each lost, over U_jj.
  void round_block(const MatrixXd& weights, MatrixXd& rest, Eigen::Index r, Eigen::Index begin, Eigen::Index stop,
                   RoundedRows& rounded, MatrixXd& errors) const {
    double* const row = rest.row(r).data();
    for (Eigen::Index i = begin; i < stop; ++i) {
      const std::int64_t group = rounded.group_at(i);
      if (i == 0 || rounded.group_at(i - 1) != group) {
        const std::int64_t size = rounded.group_end(i) - i;
        const Eigen::RowVectorXd group_values = wanted(weights, rest, r, i, size);
        rounded.set_grid(r, group,
                         search_grid({group_values.data(), static_cast<std::size_t>(size)},
                                     {importance_.data() + i, static_cast<std::size_t>(size)}, bits()));
      }
      const double error = (row[i] - rounded.set_nearest(r, i, weights(r, i) == 0 ? 0.0 : row[i])) / factor_(i, i);
      errors(r, i - begin) = error;
      const double* const u = factor_.row(i).data();
      for (Eigen::Index j = i + 1; j < stop; ++j) row[j] -= error * u[j];
    }
  }

  Tensor weight_;  // f32 [N, K]
  std::int64_t group_;
  int sweeps_;
  std::vector<std::int64_t> order_;   // [K]: the column at each place
  std::vector<std::int64_t> bounds_;  // of blocks
  MatrixXd hessian_;                  // damped, in this order
  MatrixXd factor_;                   // U
  Eigen::ArrayXd importance_;         // 1 / U_jj^2
  QuantizedMatrix result_;
};

}  // namespace

QuantizedMatrix gptq(const Tensor& weight, const QuantizedFormat& format, const InputMoments& inputs,
                     const GptqOptions& options) {
  MOLT_CHECK(weight.shape().size() == 2 && weight.shape()[1] == inputs.width());
  check_finite(to_matrix(weight), "rounded");
  return Rounding(weight, format, inputs, options).run();
}

}  // namespace molt
