// Polishing: ends where plain elimination says the minimum is, and never makes a row worse.
#include "compress/polish.h"

#include <gtest/gtest.h>

#include "compress/removal.h"
#include "molt/threads.h"
#include "tests/compress/brute_force.h"

namespace molt {
namespace {

using namespace testing_compress;

constexpr PolishOptions kToTheEnd{.rounds = 8, .steps = 200, .least_gain = 0};

Mask random_mask(std::int64_t rows, std::int64_t cols, double share, std::uint64_t seed) {
  Random random(seed);
  Mask mask(rows, cols);
  for (Eigen::Index i = 0; i < mask.size(); ++i) mask.data()[i] = random.uniform() < share ? 1 : 0;
  return mask;
}

TEST(Polish, EndsAtTheLeastSquares) {
  for (const double share : {0.0, 0.3, 0.5, 0.9, 1.0}) {
    const MatrixXd weight = random_matrix(9, 40, 1);
    const Mask mask = random_mask(9, 40, share, 2);
    const InputMoments inputs = random_moments(40, 3);
    const Rows h = damped(inputs, 0.01);
    MatrixXd weights = masked(weight, mask);
    polish(weight, mask, InverseHessian(inputs, 0.01).hessian(), kToTheEnd, weights);
    for (Eigen::Index r = 0; r < 9; ++r) {
      const Row w = row_of(weight, r);
      const double best = error_of(w, removed_in_blocks(w, marks_of(mask, r), h, w.size()), h);
      EXPECT_NEAR(error_of(w, row_of(weights, r), h), best, 1e-8 * best + 1e-18) << share << ", row " << r;
      for (Eigen::Index i = 0; i < 40; ++i) {
        if (mask(r, i) != 0) {
          ASSERT_EQ(weights(r, i), 0);
        }
      }
    }
  }
}

// From blocks' solution with the options that pruning has: better in every row, and within a thousandth of the best.
TEST(Polish, TakesWhatBlocksLeave) {
  const MatrixXd weight = random_matrix(70, 128, 4);
  const Mask mask = random_mask(70, 128, 0.5, 5);
  const InputMoments inputs = random_moments(128, 6);
  const Rows h = damped(inputs, 0.01);
  const InverseHessian inverse(inputs, 0.01);
  const auto removed = [&](std::int64_t size) {
    MatrixXd weights = weight;
    sweep_blocks(weights, inverse, size, [&](const RemovalBlock& block, MatrixXd& current) {
      return remove_together(block, mask.middleCols(block.begin, block.size()), current);
    });
    return weights;
  };
  const MatrixXd blocks = removed(16);
  const MatrixXd exact = removed(0);
  MatrixXd weights = blocks;
  polish(weight, mask, inverse.hessian(), {}, weights);
  for (Eigen::Index r = 0; r < 70; ++r) {
    const Row w = row_of(weight, r);
    EXPECT_LE(error_of(w, row_of(weights, r), h), error_of(w, row_of(blocks, r), h)) << r;
  }
  EXPECT_LT(total_error(weight, weights, h), 1.001 * total_error(weight, exact, h));
  EXPECT_GT(total_error(weight, blocks, h), 1.05 * total_error(weight, exact, h));
  // What is exact already stays.
  MatrixXd still = exact;
  polish(weight, mask, inverse.hessian(), {}, still);
  EXPECT_LE(total_error(weight, still, h), total_error(weight, exact, h) * (1 + 1e-12));
}

TEST(Polish, IsTheSameForAnyNumberOfThreads) {
  const MatrixXd weight = random_matrix(150, 48, 7);
  const Mask mask = random_mask(150, 48, 0.6, 8);
  const MatrixXd hessian = InverseHessian(random_moments(48, 9), 0.01).hessian();
  const int before = num_threads();
  std::vector<MatrixXd> results;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    results.push_back(masked(weight, mask));
    polish(weight, mask, hessian, {}, results.back());
  }
  set_num_threads(before);
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace molt
