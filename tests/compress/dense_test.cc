// The float64 linear algebra of every instruction set that this machine has, against plain loops and elimination.
#include "compress/dense.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "compress/joint_mask.h"
#include "compress/mask_refinement.h"
#include "compress/polish.h"
#include "kernels/cpu/select.h"
#include "tests/compress/brute_force.h"

namespace molt {
namespace {

using namespace testing_compress;

class Dense : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_isa(GetParam()); }
  void TearDown() override { use_isa(available_isas().front()); }
};

INSTANTIATE_TEST_SUITE_P(Isas, Dense, testing::ValuesIn(available_isas()), [](const auto& isa) { return isa.param; });

MatrixXd random_hessian(std::int64_t width, std::uint64_t seed) {
  return InverseHessian(random_moments(width, seed), 0.01).hessian();
}

TEST_P(Dense, IsOfTheInstructionSetThatWasChosen) {
  const std::string name = dense().name;
  EXPECT_EQ(name, "dense_" + GetParam().substr(0, GetParam().find('_')));
}

TEST_P(Dense, AddsProductsOfStridedRows) {
  for (const auto& [m, k, n] : {std::tuple{1, 1, 1}, {1, 40, 33}, {7, 5, 3}, {65, 130, 71}, {33, 1, 64}}) {
    const MatrixXd a = random_matrix(m, k + 3, 1);
    const MatrixXd b = random_matrix(k, n + 5, 2);
    MatrixXd c = random_matrix(m, n + 1, 3);
    const MatrixXd before = c;
    dense().add_product(rows_of(a.middleCols(2, k)), rows_of(b.middleCols(4, n)), -0.5,
                        mutable_rows_of(c.middleCols(1, n)));
    for (Eigen::Index i = 0; i < m; ++i) {
      ASSERT_EQ(c(i, 0), before(i, 0));
      for (Eigen::Index j = 0; j < n; ++j) {
        double expected = before(i, j + 1);
        for (Eigen::Index l = 0; l < k; ++l) expected -= 0.5 * a(i, l + 2) * b(l, j + 4);
        ASSERT_NEAR(c(i, j + 1), expected, 1e-14) << m << " x " << k << " x " << n;
      }
    }
  }
}

TEST_P(Dense, FactorsTheInverse) {
  for (const std::int64_t n : {1, 3, 16, 75}) {
    const MatrixXd hessian = random_hessian(n, 4);
    MatrixXd upper(n, n);
    MatrixXd square(n, n);
    MatrixXd inverse(n, n);
    ASSERT_TRUE(dense().inverse_factor(rows_of(hessian), mutable_rows_of(upper)));
    dense().squares_of_factor(rows_of(upper), mutable_rows_of(square), mutable_rows_of(inverse));
    for (Eigen::Index i = 0; i < n; ++i) {
      for (Eigen::Index j = 0; j < n; ++j) {
        if (j < i) {
          ASSERT_EQ(upper(i, j), 0);
        }
        double one = 0;
        for (Eigen::Index l = 0; l < n; ++l) one += square(i, l) * hessian(l, j);
        ASSERT_NEAR(one, i == j ? 1 : 0, 1e-9);
        ASSERT_NEAR(inverse(i, j), hessian(i, j), 1e-9 * hessian.diagonal().maxCoeff());
      }
    }
  }
  MatrixXd indefinite(2, 2);
  indefinite << 1, 2, 2, 1;
  MatrixXd upper(2, 2);
  EXPECT_FALSE(dense().inverse_factor(rows_of(indefinite), mutable_rows_of(upper)));
}

TEST_P(Dense, SolvesAtPlaces) {
  const MatrixXd hessian = random_hessian(90, 5);
  for (const std::size_t count : {0U, 1U, 2U, 31U, 90U}) {
    std::vector<std::int64_t> places;
    for (std::size_t i = 0; i < count; ++i)
      places.push_back(static_cast<std::int64_t>(i * 89 / std::max(count - 1, std::size_t{1})));
    Rows system(count, Row(count));
    Row right(count);
    for (std::size_t i = 0; i < count; ++i) {
      right[i] = 0.1 * static_cast<double>(i) - 1;
      for (std::size_t j = 0; j < count; ++j) system[i][j] = hessian(places[i], places[j]);
    }
    const Row expected = solve(system, right);
    std::vector<double> scratch(count * count);
    dense().solve_at(rows_of(hessian), places.data(), std::ssize(places), scratch.data(), right.data());
    for (std::size_t i = 0; i < count; ++i) ASSERT_NEAR(right[i], expected[i], 1e-9 * std::abs(expected[i]) + 1e-12);
  }
}

/// w_P [A_PP]^-1 w_P'
double joint_loss(const MatrixXd& inverse, const Row& w, const std::vector<std::int64_t>& places) {
  Rows system(places.size(), Row(places.size()));
  Row right(places.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    right[i] = w[static_cast<std::size_t>(places[i])];
    for (std::size_t j = 0; j < places.size(); ++j) system[i][j] = inverse(places[i], places[j]);
  }
  const Row x = solve(system, right);
  double loss = 0;
  for (std::size_t i = 0; i < places.size(); ++i) loss += x[i] * right[i];
  return loss;
}

TEST_P(Dense, RemovesWhatAddsLeastToTheJointLoss) {
  constexpr std::int64_t kWidth = 21;
  const InverseHessian inverse_hessian(random_moments(kWidth, 6), 0.01);
  const RemovalBlock block(inverse_hessian, 0, kWidth);
  Row w = row_of(random_matrix(1, kWidth, 7), 0);
  std::vector<std::uint8_t> zeros(kWidth, 0);
  w[3] = w[17] = 0;
  zeros[3] = zeros[17] = 1;
  std::vector<double> rows(kWidth * kWidth);
  std::vector<double> scratch(3 * kWidth);
  std::vector<std::int32_t> order(kWidth);
  Row added(kWidth);
  dense().order_removals(
      {rows_of(block.inverse), w.data(), zeros.data(), rows.data(), scratch.data(), order.data(), added.data()});
  EXPECT_EQ(std::set<std::int32_t>(order.begin(), order.begin() + 2), (std::set<std::int32_t>{3, 17}));
  EXPECT_EQ(added[0], -1);
  EXPECT_EQ(added[1], -1);
  std::vector<std::int64_t> gone{3, 17};
  double before = 0;
  for (std::size_t step = 2; step < kWidth; ++step) {
    double least = std::numeric_limits<double>::infinity();
    std::int64_t best = -1;
    for (std::int64_t j = 0; j < kWidth; ++j) {
      if (std::find(gone.begin(), gone.end(), j) != gone.end()) continue;
      gone.push_back(j);
      const double loss = joint_loss(block.inverse, w, gone);
      gone.pop_back();
      if (loss < least) {
        least = loss;
        best = j;
      }
    }
    ASSERT_EQ(order[step], best) << "step " << step;
    ASSERT_NEAR(added[step], least - before, 1e-8 * least);
    before = least;
    gone.push_back(best);
  }
}

TEST_P(Dense, TurnsTables) {
  MatrixXd table = random_matrix(13, 14, 8);
  const MatrixXd before = table;
  std::vector<double> scratch(13);
  dense().turn_table(mutable_rows_of(table), 4, scratch.data());
  const double pivot = before(4, 4);
  for (Eigen::Index i = 0; i < 13; ++i) {
    for (Eigen::Index j = 0; j < 14; ++j) {
      double expected = before(i, j) - before(i, 4) * before(4, j) / pivot;
      if (i == 4) expected = before(4, j) / pivot;
      if (j == 4) expected = i == 4 ? 1 / pivot : -before(i, 4) / pivot;
      ASSERT_NEAR(table(i, j), expected, 1e-12 * std::abs(expected) + 1e-14) << i << ", " << j;
    }
  }
}

// What is built of them: removal in blocks of all sizes, and polishing, against elimination.
TEST_P(Dense, RemovesAndPolishesToTheLeastSquares) {
  constexpr std::int64_t kWidth = 70;
  const InputMoments inputs = random_moments(kWidth, 9);
  const InverseHessian inverse(inputs, 0.01);
  const Rows h = damped(inputs, 0.01);
  const MatrixXd weight = random_matrix(5, kWidth, 10);
  for (const double share : {0.3, 0.7}) {  // systems of the removed columns, and of the kept ones
    Random random(11);
    Mask mask(5, kWidth);
    for (Eigen::Index i = 0; i < mask.size(); ++i) mask.data()[i] = random.uniform() < share ? 1 : 0;
    for (const std::int64_t size : {0, 32}) {
      MatrixXd weights = weight;
      sweep_blocks(weights, inverse, size, [&](const RemovalBlock& block, MatrixXd& current) {
        return remove_together(block, mask.middleCols(block.begin, block.size()), current);
      });
      for (Eigen::Index r = 0; r < 5; ++r) {
        const Row w = row_of(weight, r);
        const auto columns = static_cast<std::size_t>(size == 0 ? kWidth : size);
        const double error = error_of(w, removed_in_blocks(w, marks_of(mask, r), h, columns), h);
        ASSERT_NEAR(error_of(w, row_of(weights, r), h), error, 1e-8 * error) << share << ", " << size << ", row " << r;
      }
      polish(weight, mask, inverse.hessian(), {.rounds = 8, .steps = 200, .least_gain = 0}, weights);
      for (Eigen::Index r = 0; r < 5; ++r) {
        const Row w = row_of(weight, r);
        const double error = error_of(w, removed_in_blocks(w, marks_of(mask, r), h, kWidth), h);
        ASSERT_NEAR(error_of(w, row_of(weights, r), h), error, 1e-8 * error) << share << ", polished, row " << r;
      }
    }
  }
}

}  // namespace
}  // namespace molt
