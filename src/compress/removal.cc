#include "compress/removal.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "compress/dense.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 16;     // rows a task
constexpr std::int64_t kFollowers = 64;  // rows that are multiplied together: fewer would pack the factor too often
constexpr double kDeadShare = 1e-8;      // of the mean of H's diagonal, for inputs that were always 0

using Places = std::vector<std::int64_t>;

std::vector<std::int64_t> all_columns(std::int64_t width) {
  std::vector<std::int64_t> columns(static_cast<std::size_t>(width));
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

/// x with w - x A_BB = 0 at all removed places, and x = 0 at the kept ones. scratch [|B|^2].
void find_multipliers(const RemovalBlock& block, const Places& removed, const Places& kept, const double* w,
                      double* scratch, double* x) {
  const Eigen::Map<const Eigen::RowVectorXd> weights(w, block.size());
  Eigen::Map<Eigen::RowVectorXd> result(x, block.size());
  result.setZero();
  const bool fewer_removed = removed.size() <= kept.size();
  const Places& places = fewer_removed ? removed : kept;
  const auto count = std::ssize(places);
  Eigen::RowVectorXd solution(count);
  if (fewer_removed) {
    for (std::int64_t i = 0; i < count; ++i) solution(i) = w[places[static_cast<std::size_t>(i)]];
    dense().solve_at(rows_of(block.inverse), places.data(), count, scratch, solution.data());
    for (std::int64_t i = 0; i < count; ++i) x[places[static_cast<std::size_t>(i)]] = solution(i);
    return;
  }
  // What is kept becomes v with (w - v) M = 0 there, M = A_BB^-1; x is (w - v) M elsewhere.
  const MatrixXd slope = product(weights, block.metric);
  for (std::int64_t i = 0; i < count; ++i) solution(i) = slope(0, places[static_cast<std::size_t>(i)]);
  dense().solve_at(rows_of(block.metric), places.data(), count, scratch, solution.data());
  Eigen::RowVectorXd change = weights;
  for (std::int64_t i = 0; i < count; ++i) change(places[static_cast<std::size_t>(i)]) -= solution(i);
  const MatrixXd all = product(change, block.metric);
  for (const std::int64_t place : removed) x[place] = all(0, place);
}

/// Removes column i of the block from a row [|B|] and lets the columns behind it follow. Returns what was lost.
double remove_column(const MatrixXd& factor, Eigen::Index i, double* row) {
  const double* const u = factor.row(i).data();
  const double lost = row[i] / u[i];
  for (Eigen::Index j = i + 1; j < factor.rows(); ++j) row[j] -= lost * u[j];
  row[i] = 0;
  return lost;
}

/// Marks the columns of a group, [begin, end), that go from a row.
void mark_group(const MatrixXd& factor, const Sparsity& pattern, const double* row, const std::uint8_t* zeros,
                Eigen::Index begin, Eigen::Index end, std::uint8_t* marks) {
  MatrixXd scores(1, end - begin);
  for (Eigen::Index i = begin; i < end; ++i) {
    const double size = row[i] / factor(i, i);
    scores(0, i - begin) = zeros[i] != 0 ? -1 : size * size;
  }
  const Mask chosen = least_of_groups(scores, pattern);
  for (Eigen::Index i = begin; i < end; ++i) marks[i] = zeros[i] | chosen(0, i - begin);
}

}  // namespace

InverseHessian::InverseHessian(const InputMoments& inputs, double damping)
    : hessian_(damped_hessian(inputs, all_columns(inputs.width()), damping)) {
  const Matrix<const double> products = inputs.products();
  const double mean = hessian_.diagonal().mean();
  for (Eigen::Index j = 0; j < width() && inputs.rows > 0; ++j) {
    if (products(j, j) == 0) hessian_(j, j) = kDeadShare * mean;
  }
  factor_ = inverse_factor(hessian_);
}

RemovalBlock::RemovalBlock(const InverseHessian& of, Eigen::Index first, Eigen::Index last)
    : begin(first),
      end(last),
      factor(of.factor().block(first, first, last - first, last - first)),
      inverse(last - first, last - first),
      metric(last - first, last - first) {
  dense().squares_of_factor(rows_of(factor), mutable_rows_of(inverse), mutable_rows_of(metric));
}

void sweep_blocks(MatrixXd& weights, const InverseHessian& inverse, std::int64_t size, const BlockStep& step) {
  const Eigen::Index width = inverse.width();
  MOLT_CHECK(weights.cols() == width && size >= 0);
  const Eigen::Index stride = size == 0 ? width : std::min<Eigen::Index>(size, width);
  for (Eigen::Index begin = 0; begin < width; begin += stride) {
    const RemovalBlock block(inverse, begin, std::min(begin + stride, width));
    const MatrixXd lost = step(block, weights);
    if (block.end == width) continue;
    const auto follow = inverse.factor().block(begin, block.end, block.size(), width - block.end);
    parallel_for(weights.rows(), kFollowers, [&](std::int64_t from, std::int64_t to) {
      dense().add_product(rows_of(lost.middleRows(from, to - from)), rows_of(follow), -1,
                          mutable_rows_of(weights.block(from, block.end, to - from, width - block.end)));
    });
  }
}

MatrixXd remove_together(const RemovalBlock& block, const Mask& mask, MatrixXd& weights) {
  MatrixXd lost = MatrixXd::Zero(weights.rows(), block.size());
  const MatrixXd transposed = block.factor.transpose();
  parallel_for(weights.rows(), kFollowers, [&](std::int64_t from, std::int64_t to) {
    MatrixXd x(to - from, block.size());
    MatrixXd scratch(block.size(), block.size());
    for (Eigen::Index r = from; r < to; ++r) {
      Places places[2];  // kept, removed
      for (Eigen::Index i = 0; i < block.size(); ++i) places[mask(r, i)].push_back(i);
      find_multipliers(block, places[1], places[0], weights.row(r).data() + block.begin, scratch.data(),
                       x.row(r - from).data());
    }
    auto lost_here = lost.middleRows(from, to - from);
    auto changed = weights.block(from, block.begin, to - from, block.size());
    dense().add_product(rows_of(x), rows_of(transposed), 1, mutable_rows_of(lost_here));
    dense().add_product(rows_of(lost_here), rows_of(block.factor), -1, mutable_rows_of(changed));
    for (Eigen::Index r = from; r < to; ++r) {
      for (Eigen::Index i = 0; i < block.size(); ++i) {
        if (mask(r, i) != 0) changed(r - from, i) = 0;
      }
    }
  });
  return lost;
}

MatrixXd remove_one_by_one(const RemovalBlock& block, const Mask& mask, MatrixXd& weights) {
  MatrixXd lost = MatrixXd::Zero(weights.rows(), block.size());
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    for (Eigen::Index r = from; r < to; ++r) {
      double* const row = weights.row(r).data() + block.begin;
      for (Eigen::Index i = 0; i < block.size(); ++i) {
        if (mask(r, i) != 0) lost(r, i) = remove_column(block.factor, i, row);
      }
    }
  });
  return lost;
}

MatrixXd remove_one_by_one(const RemovalBlock& block, const Sparsity& pattern, const Mask& zeros, MatrixXd& weights) {
  MatrixXd lost = MatrixXd::Zero(weights.rows(), block.size());
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    std::vector<std::uint8_t> marks(static_cast<std::size_t>(block.size()));
    for (Eigen::Index r = from; r < to; ++r) {
      double* const row = weights.row(r).data() + block.begin;
      for (Eigen::Index i = 0; i < block.size(); ++i) {
        if (i % pattern.of == 0) {
          mark_group(block.factor, pattern, row, zeros.row(r).data(), i, std::min(i + pattern.of, block.size()),
                     marks.data());
        }
        if (marks[static_cast<std::size_t>(i)] != 0) lost(r, i) = remove_column(block.factor, i, row);
      }
    }
  });
  return lost;
}

}  // namespace molt
