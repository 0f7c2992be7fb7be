#include "compress/pruning_mask.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace molt {
namespace {

/// Marks the `count` least of `scores[0, size)`.
void mark_least(const double* scores, std::int64_t size, std::int64_t count, std::uint8_t* marks) {
  if (count <= 0) return;
  MOLT_CHECK(count <= size);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  std::nth_element(order.begin(), order.begin() + (count - 1), order.end(), [scores](std::int64_t a, std::int64_t b) {
    return scores[a] < scores[b] || (scores[a] == scores[b] && a < b);
  });
  for (std::int64_t i = 0; i < count; ++i) marks[order[static_cast<std::size_t>(i)]] = 1;
}

}  // namespace

Mask least_of_all(const MatrixXd& scores, std::int64_t count) {
  Mask mask = Mask::Zero(scores.rows(), scores.cols());
  mark_least(scores.data(), scores.size(), count, mask.data());
  return mask;
}

Mask least_of_rows(const MatrixXd& scores, const Sparsity& sparsity) {
  Mask mask = Mask::Zero(scores.rows(), scores.cols());
  for (Eigen::Index r = 0; r < scores.rows(); ++r) {
    mark_least(scores.row(r).data(), scores.cols(), sparsity.removed(scores.cols()), mask.row(r).data());
  }
  return mask;
}

Mask least_of_groups(const MatrixXd& scores, const Sparsity& sparsity) {
  Mask mask = Mask::Zero(scores.rows(), scores.cols());
  for (Eigen::Index r = 0; r < scores.rows(); ++r) {
    for (Eigen::Index begin = 0; begin < scores.cols(); begin += sparsity.of) {
      const std::int64_t size = std::min<std::int64_t>(sparsity.of, scores.cols() - begin);
      mark_least(scores.row(r).data() + begin, size, sparsity.removed_of_group(size), mask.row(r).data() + begin);
    }
  }
  return mask;
}

Mask zeros_of(const MatrixXd& weight) {
  return (weight.array() == 0).cast<std::uint8_t>();
}

MatrixXd masked(const MatrixXd& weight, const Mask& mask) {
  return (mask.array() != 0).select(MatrixXd::Zero(weight.rows(), weight.cols()), weight);
}

std::int64_t block_size(std::int64_t asked, const Sparsity& sparsity) {
  return sparsity.pattern() && asked != 0 ? std::max(asked / sparsity.of, std::int64_t{1}) * sparsity.of : asked;
}

std::int64_t removed_of_block(const Sparsity& sparsity, std::int64_t rows, std::int64_t begin, std::int64_t end) {
  return sparsity.removed(rows * end) - sparsity.removed(rows * begin);
}

Mask least_of_block(MatrixXd scores, const Sparsity& sparsity, std::int64_t begin, const Mask& zeros) {
  scores = (zeros.array() != 0).select(MatrixXd::Constant(scores.rows(), scores.cols(), -1), scores);
  const Mask chosen =
      sparsity.pattern()
          ? least_of_groups(scores, sparsity)
          : least_of_all(scores, removed_of_block(sparsity, scores.rows(), begin, begin + scores.cols()));
  return chosen.cwiseMax(zeros);
}

}  // namespace molt
