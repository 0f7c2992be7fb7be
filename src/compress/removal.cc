#include "compress/removal.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 16;     // rows that are multiplied together
constexpr std::int64_t kFollowers = 64;  // by a whole block's follow-up: fewer would pack that too often
constexpr double kDeadShare = 1e-8;      // of the mean of H's diagonal, for inputs that were always 0

using Places = std::vector<Eigen::Index>;

std::vector<std::int64_t> all_columns(std::int64_t width) {
  std::vector<std::int64_t> columns(static_cast<std::size_t>(width));
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

/// The solution of M_SS z = right_S, M symmetric positive definite, at the places S.
Eigen::VectorXd solve_at(const MatrixXd& matrix, const Places& places,
                         const Eigen::Ref<const Eigen::RowVectorXd>& right) {
  const auto n = static_cast<Eigen::Index>(places.size());
  Eigen::MatrixXd system(n, n);
  Eigen::VectorXd solution(n);
  for (Eigen::Index j = 0; j < n; ++j) {
    const double* const row = matrix.row(places[static_cast<std::size_t>(j)]).data();
    for (Eigen::Index i = j; i < n; ++i) system(i, j) = row[places[static_cast<std::size_t>(i)]];
    solution(j) = right(places[static_cast<std::size_t>(j)]);
  }
  const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> factorization(system);
  factorization.solveInPlace(solution);
  return solution;
}

/// x with w - x A_BB = 0 at all removed places, and x = 0 at the kept ones.
Eigen::RowVectorXd multipliers(const RemovalBlock& block, const Places& removed, const Places& kept,
                               const Eigen::Ref<const Eigen::RowVectorXd>& w) {
  Eigen::RowVectorXd x = Eigen::RowVectorXd::Zero(block.size());
  if (removed.size() <= kept.size()) {
    const Eigen::VectorXd solution = solve_at(block.inverse, removed, w);
    for (std::size_t i = 0; i < removed.size(); ++i) x(removed[i]) = solution(static_cast<Eigen::Index>(i));
    return x;
  }
  // What is kept becomes v with (w - v) M = 0 there, M = A_BB^-1; x is (w - v) M elsewhere.
  const Eigen::RowVectorXd slope = w * block.metric;
  const Eigen::VectorXd solution = solve_at(block.metric, kept, slope);
  Eigen::RowVectorXd change = w;
  for (std::size_t i = 0; i < kept.size(); ++i) change(kept[i]) -= solution(static_cast<Eigen::Index>(i));
  const Eigen::RowVectorXd all = change * block.metric;
  for (const Eigen::Index place : removed) x(place) = all(place);
  return x;
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
    : begin(first), end(last), factor(of.factor().block(first, first, last - first, last - first)) {
  inverse.noalias() = factor.transpose() * factor;
  const MatrixXd root = factor.triangularView<Eigen::Upper>().solve(MatrixXd::Identity(size(), size()));
  metric.noalias() = root * root.transpose();
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
      weights.block(from, block.end, to - from, width - block.end).noalias() -=
          lost.middleRows(from, to - from) * follow;
    });
  }
}

MatrixXd remove_together(const RemovalBlock& block, const Mask& mask, MatrixXd& weights) {
  MatrixXd lost = MatrixXd::Zero(weights.rows(), block.size());
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    MatrixXd x(to - from, block.size());
    for (Eigen::Index r = from; r < to; ++r) {
      Places places[2];  // kept, removed
      for (Eigen::Index i = 0; i < block.size(); ++i) places[mask(r, i)].push_back(i);
      x.row(r - from) = multipliers(block, places[1], places[0], weights.row(r).segment(block.begin, block.size()));
    }
    lost.middleRows(from, to - from).noalias() = x * block.factor.transpose();
    auto changed = weights.block(from, block.begin, to - from, block.size());
    changed.noalias() -= lost.middleRows(from, to - from) * block.factor;
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
