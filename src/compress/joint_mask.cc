#include "compress/joint_mask.h"

#include <Eigen/LU>
#include <algorithm>
#include <bit>
#include <vector>

#include "base/parallel.h"
#include "compress/dense.h"

namespace molt {
namespace {

constexpr std::int64_t kBundle = 16;

/// One way to remove some of a group's columns: which, and the inverse by which their joint loss is told.
struct Choice {
  unsigned columns = 0;  // bit i: column i of the group goes
  std::vector<Eigen::Index> places;
  MatrixXd inverse;  // [A_PP]^-1

  double loss(const double* w) const {
    double sum = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      double inner = 0;
      for (std::size_t j = 0; j < places.size(); ++j) {
        inner += inverse(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) * w[places[j]];
      }
      sum += inner * w[places[i]];
    }
    return sum;
  }
};

/// All ways to remove `removed` of the columns [begin, begin + size) of the block.
std::vector<Choice> choices_of(const MatrixXd& inverse, Eigen::Index begin, std::int64_t size, std::int64_t removed) {
  std::vector<Choice> choices;
  for (unsigned columns = 0; columns < 1U << size; ++columns) {
    if (std::popcount(columns) != removed) continue;
    Choice& choice = choices.emplace_back();
    choice.columns = columns;
    for (Eigen::Index i = 0; i < size; ++i) {
      if ((columns >> i & 1U) != 0) choice.places.push_back(i);
    }
    MatrixXd part(removed, removed);
    for (Eigen::Index i = 0; i < removed; ++i) {
      for (Eigen::Index j = 0; j < removed; ++j) {
        part(i, j) = inverse(begin + choice.places[static_cast<std::size_t>(i)],
                             begin + choice.places[static_cast<std::size_t>(j)]);
      }
    }
    choice.inverse = part.inverse();
  }
  return choices;
}

/// Of the choices that remove most of `zeros` (bits of the group's columns) the one of least loss.
unsigned best_choice(const std::vector<Choice>& choices, const double* w, unsigned zeros) {
  unsigned best = 0;
  int best_zeros = -1;
  double least = 0;
  for (const Choice& choice : choices) {
    const int count = std::popcount(choice.columns & zeros);
    if (count < best_zeros) continue;
    const double loss = choice.loss(w);
    if (count == best_zeros && !(loss < least)) continue;
    best = choice.columns;
    best_zeros = count;
    least = loss;
  }
  return best;
}

}  // namespace

Mask least_joint_of_groups(const RemovalBlock& block, const Sparsity& pattern, const MatrixXd& weights,
                           const Mask& zeros) {
  Mask mask = Mask::Zero(weights.rows(), weights.cols());
  for (Eigen::Index begin = 0; begin < weights.cols(); begin += pattern.of) {
    const std::int64_t size = std::min<std::int64_t>(pattern.of, weights.cols() - begin);
    const std::vector<Choice> choices = choices_of(block.inverse, begin, size, pattern.removed_of_group(size));
    parallel_for(weights.rows(), 4 * kBundle, [&](std::int64_t from, std::int64_t to) {
      for (Eigen::Index r = from; r < to; ++r) {
        unsigned gone = 0;
        for (Eigen::Index i = 0; i < size; ++i) gone |= static_cast<unsigned>(zeros(r, begin + i)) << i;
        gone |= best_choice(choices, weights.row(r).data() + begin, gone);
        for (Eigen::Index i = 0; i < size; ++i) mask(r, begin + i) = gone >> i & 1U;
      }
    });
  }
  return mask;
}

Mask least_joint(const RemovalBlock& block, std::int64_t count, const MatrixXd& weights, const Mask& zeros) {
  // The order in which each row's weights go, and what each adds to the joint loss.
  Eigen::Matrix<std::int32_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> order(weights.rows(), weights.cols());
  MatrixXd added(weights.rows(), weights.cols());
  parallel_for(weights.rows(), kBundle, [&](std::int64_t from, std::int64_t to) {
    MatrixXd scratch(block.size() + 3, block.size());
    for (Eigen::Index r = from; r < to; ++r) {
      dense().order_removals({rows_of(block.inverse), weights.row(r).data(), zeros.row(r).data(), scratch.data(),
                              scratch.row(block.size()).data(), order.row(r).data(), added.row(r).data()});
      // A removal comes with those before it in its row: its price is the dearest of them.
      for (Eigen::Index i = 1; i < weights.cols(); ++i) added(r, i) = std::max(added(r, i), added(r, i - 1));
    }
  });
  // Among equal prices of one row the earlier come first, as least_of_all() has it.
  const Mask steps = least_of_all(added, count);
  Mask mask = zeros;
  for (Eigen::Index r = 0; r < weights.rows(); ++r) {
    for (Eigen::Index i = 0; i < weights.cols(); ++i) {
      if (steps(r, i) != 0) mask(r, order(r, i)) = 1;
    }
  }
  return mask;
}

}  // namespace molt
