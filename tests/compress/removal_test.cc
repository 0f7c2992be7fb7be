// Removal: every mask of narrow rows against least squares by plain elimination, and the order of what ways to make
// removals good cost.
#include "compress/removal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "compress/joint_mask.h"
#include "molt/error.h"
#include "molt/threads.h"
#include "tests/compress/brute_force.h"

namespace molt {
namespace {

using namespace testing_compress;

constexpr double kDamping = 0.01;

enum class Way { one_by_one, together };

/// `weight` with what `mask` marks removed in blocks of `size` columns.
MatrixXd removed(const MatrixXd& weight, const Mask& mask, const InputMoments& inputs, std::int64_t size, Way way,
                 double damping = kDamping) {
  MatrixXd weights = weight;
  sweep_blocks(weights, InverseHessian(inputs, damping), size, [&](const RemovalBlock& block, MatrixXd& current) {
    const Mask part = mask.middleCols(block.begin, block.size());
    return way == Way::together ? remove_together(block, part, current) : remove_one_by_one(block, part, current);
  });
  return weights;
}

/// A row for each of the 2^width masks.
Mask all_masks(Eigen::Index width) {
  Mask mask(Eigen::Index{1} << width, width);
  for (Eigen::Index r = 0; r < mask.rows(); ++r) {
    for (Eigen::Index i = 0; i < width; ++i) mask(r, i) = r >> i & 1;
  }
  return mask;
}

Mask random_mask(std::int64_t rows, std::int64_t cols, double share, std::uint64_t seed) {
  Random random(seed);
  Mask mask(rows, cols);
  for (Eigen::Index i = 0; i < mask.size(); ++i) mask.data()[i] = random.uniform() < share ? 1 : 0;
  return mask;
}

void expect_rows(const MatrixXd& found, const MatrixXd& weight, const Mask& mask, const Rows& h, std::size_t block,
                 const std::string& what) {
  for (Eigen::Index r = 0; r < weight.rows(); ++r) {
    const Row w = row_of(weight, r);
    const Row expected = removed_in_blocks(w, marks_of(mask, r), h, block);
    const double error = error_of(w, expected, h);
    ASSERT_NEAR(error_of(w, row_of(found, r), h), error, 1e-8 * error + 1e-20) << what << ", row " << r;
    for (Eigen::Index i = 0; i < weight.cols(); ++i) {
      const double value = expected[static_cast<std::size_t>(i)];
      ASSERT_NEAR(found(r, i), value, 1e-8) << what << ", row " << r << ", column " << i;
      if (mask(r, i) != 0) {
        ASSERT_EQ(found(r, i), 0) << what << ", row " << r << ", column " << i;
      }
    }
  }
}

TEST(Removal, EqualsLeastSquaresForEveryMask) {
  for (const std::int64_t width : {1, 2, 5, 8}) {
    const Mask mask = all_masks(width);
    const MatrixXd weight = random_matrix(mask.rows(), width, static_cast<std::uint64_t>(width));
    const InputMoments inputs = random_moments(width, 3);
    const Rows h = damped(inputs, kDamping);
    for (const std::int64_t block : {0, 1, 2, 3, 4, 7}) {
      const auto columns = static_cast<std::size_t>(block == 0 ? width : block);
      const std::string what = "width " + std::to_string(width) + ", block " + std::to_string(block);
      expect_rows(removed(weight, mask, inputs, block, Way::together), weight, mask, h, columns, what);
      expect_rows(removed(weight, mask, inputs, block, Way::one_by_one), weight, mask, h, 1, what + ", one by one");
    }
  }
}

TEST(Removal, EqualsLeastSquaresForWiderRows) {
  for (const double share : {0.2, 0.5, 0.9}) {  // systems of the removed columns, and of the kept ones
    const Mask mask = random_mask(7, 70, share, 4);
    const MatrixXd weight = random_matrix(7, 70, 5);
    const InputMoments inputs = random_moments(70, 6);
    const Rows h = damped(inputs, kDamping);
    for (const std::int64_t block : {0, 16, 32}) {
      expect_rows(removed(weight, mask, inputs, block, Way::together), weight, mask, h,
                  static_cast<std::size_t>(block == 0 ? 70 : block), std::to_string(block) + " columns");
    }
    expect_rows(removed(weight, mask, inputs, 16, Way::one_by_one), weight, mask, h, 1, "one by one");
  }
}

// The compensated row is where no kept weight can be moved with profit: its gradient is 0.
TEST(Removal, LeavesNoGradientAtKeptWeights) {
  const Mask mask = random_mask(40, 96, 0.5, 1);
  const MatrixXd weight = random_matrix(40, 96, 2);
  const InputMoments inputs = random_moments(96, 3);
  const InverseHessian inverse(inputs, kDamping);
  const MatrixXd gradient = (weight - removed(weight, mask, inputs, 0, Way::together)) * inverse.hessian();
  const double size = (weight * inverse.hessian()).cwiseAbs().maxCoeff();
  for (Eigen::Index i = 0; i < mask.size(); ++i) {
    if (mask.data()[i] == 0) {
      ASSERT_LT(std::abs(gradient.data()[i]), 1e-9 * size);
    }
  }
}

// Of the same mask on the same moments: all at once costs least, larger blocks less than smaller ones, one by one more,
// and what is not made good most.
TEST(Removal, CostsLessTheMoreIsMadeGoodAtOnce) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const std::int64_t width = 96;
    const Mask mask = random_mask(24, width, seed % 2 == 0 ? 0.5 : 0.7, seed);
    const MatrixXd weight = random_matrix(24, width, seed + 100);
    const InputMoments inputs = random_moments(width, seed + 200);
    const Rows h = damped(inputs, kDamping);
    const auto error = [&](std::int64_t block, Way way) {
      return total_error(weight, removed(weight, mask, inputs, block, way), h);
    };
    const double exact = error(0, Way::together);
    EXPECT_LE(exact, error(48, Way::together)) << seed;
    EXPECT_LE(error(48, Way::together), error(16, Way::together)) << seed;
    EXPECT_LE(error(16, Way::together), error(16, Way::one_by_one)) << seed;
    EXPECT_LT(error(16, Way::one_by_one), total_error(weight, masked(weight, mask), h)) << seed;
    EXPECT_NEAR(error(1, Way::together), error(16, Way::one_by_one), 1e-9 * exact) << seed;
  }
}

TEST(Removal, OfAPatternOneByOneChoosesWhenAGroupIsReached) {
  const InputMoments inputs = random_moments(10, 3);
  const Rows h = damped(inputs, kDamping);
  const MatrixXd weight = random_matrix(30, 10, 4);
  MatrixXd found = weight;
  sweep_blocks(found, InverseHessian(inputs, kDamping), 8, [&](const RemovalBlock& block, MatrixXd& current) {
    return remove_one_by_one(block, parse_pattern("2:4"), Mask::Zero(30, block.size()), current);
  });
  for (Eigen::Index r = 0; r < 30; ++r) {
    const Row w = row_of(weight, r);
    Row v = w;
    std::vector<bool> fixed(10, false);
    std::vector<bool> gone(10, false);
    for (std::size_t i = 0; i < 10; ++i) {
      // At a group's first column: what each of its weights alone would cost, with all left of it held; two stay.
      const std::size_t end = std::min<std::size_t>(i + 4, 10);
      std::vector<std::pair<double, std::size_t>> costs;
      for (std::size_t j = i; i % 4 == 0 && j < end; ++j) {
        std::vector<bool> held(10, false);
        std::fill_n(held.begin(), j + 1, true);
        Row without = v;
        without[j] = 0;
        settle(w, without, h, held);
        costs.emplace_back(error_of(w, without, h), j);
      }
      std::sort(costs.begin(), costs.end());
      for (std::size_t k = 0; k + 2 < costs.size(); ++k) gone[costs[k].second] = true;
      fixed[i] = true;
      if (!gone[i]) continue;
      v[i] = 0;
      settle(w, v, h, fixed);
    }
    EXPECT_NEAR(error_of(w, row_of(found, r), h), error_of(w, v, h), 1e-8 * error_of(w, v, h)) << r;
  }
}

TEST(Removal, IsTheSameForAnyNumberOfThreads) {
  const Mask mask = random_mask(83, 64, 0.6, 1);
  const MatrixXd weight = random_matrix(83, 64, 2);
  const InputMoments inputs = random_moments(64, 3);
  const int before = num_threads();
  std::vector<MatrixXd> results;
  for (const int threads : {1, 2, 4}) {
    set_num_threads(threads);
    results.push_back(removed(weight, mask, inputs, 16, Way::together));
  }
  set_num_threads(before);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

/// The least joint loss of removing `count` of the columns [begin, end) of w, all others free, by trying all.
double least_by_trying(const Row& w, const Rows& h, std::size_t begin, std::size_t end, int count) {
  double least = std::numeric_limits<double>::infinity();
  for (unsigned columns = 0; columns < 1U << (end - begin); ++columns) {
    if (std::popcount(columns) != count) continue;
    std::vector<bool> gone(w.size(), false);
    for (std::size_t i = begin; i < end; ++i) gone[i] = (columns >> (i - begin) & 1U) != 0;
    least = std::min(least, error_of(w, removed_in_blocks(w, gone, h, w.size()), h));
  }
  return least;
}

TEST(JointMask, OfAPatternIsTheBestOfAllChoices) {
  for (const auto& [pattern, width] : {std::pair("2:4", 4), std::pair("4:8", 8), std::pair("1:4", 4)}) {
    const Sparsity sparsity = parse_pattern(pattern);
    const MatrixXd weight = random_matrix(25, width, 1);
    const InputMoments inputs = random_moments(width, 2);
    const InverseHessian inverse(inputs, kDamping);
    const Mask mask = least_joint_of_groups({inverse, 0, width}, sparsity, weight, Mask::Zero(25, width));
    const MatrixXd found = removed(weight, mask, inputs, 0, Way::together);
    const Rows h = damped(inputs, kDamping);
    for (Eigen::Index r = 0; r < 25; ++r) {
      const Row w = row_of(weight, r);
      const auto count = static_cast<int>(sparsity.of - sparsity.keep);
      const double best = least_by_trying(w, h, 0, w.size(), count);
      EXPECT_NEAR(error_of(w, row_of(found, r), h), best, 1e-8 * best) << pattern << ", row " << r;
    }
  }
}

// Without a pattern: each row loses, step by step, what then adds least, and what each step adds is what it is said to.
TEST(JointMask, WithoutAPatternGoesByWhatEachRemovalAdds) {
  const Eigen::Index width = 7;
  const MatrixXd weight = random_matrix(12, width, 3);
  const InputMoments inputs = random_moments(width, 4);
  const Rows h = damped(inputs, kDamping);
  const InverseHessian inverse(inputs, kDamping);
  struct Step {
    double price;
    Eigen::Index row;
    std::size_t column;
  };
  std::vector<Step> steps;
  for (Eigen::Index r = 0; r < 12; ++r) {
    const Row w = row_of(weight, r);
    std::vector<bool> gone(7, false);
    double error = 0;
    double dearest = 0;
    for (int i = 0; i < 7; ++i) {
      std::pair<double, std::size_t> best{std::numeric_limits<double>::infinity(), 0};
      for (std::size_t j = 0; j < 7; ++j) {
        if (gone[j]) continue;
        std::vector<bool> more = gone;
        more[j] = true;
        best = std::min(best, {error_of(w, removed_in_blocks(w, more, h, 7), h), j});
      }
      dearest = std::max(dearest, best.first - error);
      steps.push_back({dearest, r, best.second});
      error = best.first;
      gone[best.second] = true;
    }
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.price < b.price; });
  for (const std::int64_t count : {0, 1, 20, 42, 83, 84}) {
    Mask expected = Mask::Zero(12, width);
    for (std::int64_t i = 0; i < count; ++i) {
      const Step& step = steps[static_cast<std::size_t>(i)];
      expected(step.row, static_cast<Eigen::Index>(step.column)) = 1;
    }
    EXPECT_EQ(least_joint({inverse, 0, width}, count, weight, Mask::Zero(12, width)), expected) << count;
  }
}

TEST(InverseHessian, RefusesWhatIsNotFinite) {
  Rows sums(3, Row(3, 0.0));
  sums[1][1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(InverseHessian(moments_of(sums, 1), kDamping), Error);
}

}  // namespace
}  // namespace molt
