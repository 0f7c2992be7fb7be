// Refining masks: every exchange against errors by plain elimination, and that it ends where none pays.
#include "compress/mask_refinement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "molt/threads.h"
#include "tests/compress/brute_force.h"

namespace molt {
namespace {

using namespace testing_compress;

constexpr double kDamping = 0.01;
constexpr int kNoLimit = 1000;

/// What a row's removals cost.
using Cost = std::function<double(const Row& w, const std::vector<bool>& gone)>;

/// The mask after the exchange of a removed weight for a kept one that costs least, with its cost; the groups of the
/// pattern keep to themselves.
std::pair<double, std::vector<bool>> best_exchange(const Row& w, const std::vector<bool>& gone,
                                                   const Sparsity& sparsity, const Cost& cost) {
  std::pair<double, std::vector<bool>> best{std::numeric_limits<double>::infinity(), gone};
  for (std::size_t back = 0; back < w.size(); ++back) {
    for (std::size_t other = 0; other < w.size(); ++other) {
      const auto group = [&](std::size_t i) {
        return sparsity.pattern() ? i / static_cast<std::size_t>(sparsity.of) : 0;
      };
      if (!gone[back] || gone[other] || w[back] == 0 || group(back) != group(other)) continue;
      std::vector<bool> exchanged = gone;
      exchanged[back] = false;
      exchanged[other] = true;
      const double error = cost(w, exchanged);
      if (error < best.first) best = {error, exchanged};
    }
  }
  return best;
}

/// Refines by trying all exchanges, until none pays or for `swaps` of them.
std::vector<bool> refined(const Row& w, std::vector<bool> gone, const Sparsity& sparsity, const Cost& cost, int swaps) {
  for (int i = 0; i < swaps; ++i) {
    const auto [error, exchanged] = best_exchange(w, gone, sparsity, cost);
    if (!(error < cost(w, gone) * (1 - 1e-9))) break;
    gone = exchanged;
  }
  return gone;
}

class Refinement : public testing::TestWithParam<const char*> {
 protected:
  Refinement() : sparsity_(std::string(GetParam()) == "half" ? Sparsity{.share = 0.5} : parse_pattern(GetParam())) {
    weight_(3, 2) = weight_(5, 7) = 0;
    Mask mask = sparsity_.pattern() ? least_of_groups(weight_.cwiseAbs(), sparsity_)
                                    : least_of_rows(weight_.cwiseAbs(), sparsity_);
    mask_ = mask.cwiseMax(zeros_of(weight_));
  }

  void expect_refined(const Mask& found, const Cost& cost, int swaps) const {
    for (Eigen::Index r = 0; r < weight_.rows(); ++r) {
      const Row w = row_of(weight_, r);
      EXPECT_EQ(marks_of(found, r), refined(w, marks_of(mask_, r), sparsity_, cost, swaps)) << r << ", " << swaps;
    }
  }

  Sparsity sparsity_;
  MatrixXd weight_ = random_matrix(20, 12, 3);
  InputMoments inputs_ = random_moments(12, 4);
  Mask mask_;
};

TEST_P(Refinement, OfPlainRemovalTakesTheBestExchanges) {
  const Rows h = damped(inputs_, 0);
  const Cost cost = [&](const Row& w, const std::vector<bool>& gone) {
    Row v = w;
    for (std::size_t i = 0; i < w.size(); ++i) {
      if (gone[i]) v[i] = 0;
    }
    return error_of(w, v, h);
  };
  const Eigen::Map<const MatrixXd> hessian(inputs_.second.as<double>(), 12, 12);
  for (const int swaps : {0, 1, 2, kNoLimit}) {
    expect_refined(refine_removed(weight_, hessian, sparsity_, mask_, swaps), cost, swaps);
  }
}

TEST_P(Refinement, OfCompensatedRemovalTakesTheBestExchanges) {
  const Rows h = damped(inputs_, kDamping);
  const Cost cost = [&](const Row& w, const std::vector<bool>& gone) {
    return error_of(w, removed_in_blocks(w, gone, h, w.size()), h);
  };
  const InverseHessian inverse(inputs_, kDamping);
  const RemovalBlock all(inverse, 0, 12);
  for (const int swaps : {0, 1, 2, kNoLimit}) {
    expect_refined(refine_compensated(all, weight_, sparsity_, zeros_of(weight_), mask_, swaps), cost, swaps);
  }
}

INSTANTIATE_TEST_SUITE_P(Amounts, Refinement, testing::Values("half", "2:4", "1:3"), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
});

TEST(MaskRefinement, IsTheSameForAnyNumberOfThreads) {
  const MatrixXd weight = random_matrix(37, 40, 1);
  const InputMoments inputs = random_moments(40, 2);
  const InverseHessian inverse(inputs, kDamping);
  const Sparsity sparsity{.share = 0.6};
  const Mask mask = least_of_rows(weight.cwiseAbs(), sparsity);
  const int before = num_threads();
  std::vector<Mask> masks;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    masks.push_back(refine_compensated({inverse, 0, 40}, weight, sparsity, zeros_of(weight), mask, 20));
  }
  set_num_threads(before);
  EXPECT_EQ(masks[0], masks[1]);
  EXPECT_NE(masks[0], mask);
}

}  // namespace
}  // namespace molt
