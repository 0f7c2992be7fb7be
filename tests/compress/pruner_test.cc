// The methods of pruning: what each is to remove, found independently, and what no method may do.
#include "compress/pruner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "compress/joint_mask.h"
#include "compress/output_error.h"
#include "molt/error.h"
#include "molt/threads.h"
#include "tests/compress/brute_force.h"

namespace molt {
namespace {

using namespace testing_compress;
using testing::HasSubstr;

const std::vector<std::string> kMethods = {"magnitude", "wanda", "sparsegpt", "mrp-ss", "mrp-sm", "mrp-mm"};

MatrixXd pruned(const std::string& method, const MatrixXd& weight, const InputMoments& inputs,
                const PruneSettings& settings) {
  return to_matrix(find_pruner(method).make()->prune(to_tensor(weight, DType::f64), &inputs, settings));
}

PruneSettings of_share(double share, std::int64_t block = 16) {
  return {.sparsity = {.share = share}, .block = block};
}

PruneSettings of_pattern(const std::string& pattern, std::int64_t block = 16) {
  return {.sparsity = parse_pattern(pattern), .block = block};
}

std::int64_t zeros_in(const MatrixXd& matrix) {
  return (matrix.array() == 0).count();
}

TEST(Pruner, AllMethodsAreThere) {
  EXPECT_THAT(Registry<PrunerEntry>::instance().names(), testing::UnorderedElementsAreArray(kMethods));
  for (const std::string& method : kMethods) EXPECT_EQ(find_pruner(method).calibrated, method != "magnitude") << method;
  try {
    find_pruner("obd");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("mrp-mm, mrp-sm"));
  }
}

TEST(Pruner, RemovesAsManyAsIsAsked) {
  const MatrixXd weight = random_matrix(13, 50, 1);
  const InputMoments inputs = random_moments(50, 2);
  for (const std::string& method : kMethods) {
    for (const double share : {0.0, 0.3, 0.5, 0.85, 1.0}) {
      const MatrixXd found = pruned(method, weight, inputs, of_share(share));
      // Wanda rounds in every row, the others over all.
      const double slack = method == "wanda" ? 13 * 0.5 : 0.5;
      EXPECT_NEAR(static_cast<double>(zeros_in(found)), share * 13 * 50, slack) << method << ", " << share;
    }
  }
}

TEST(Pruner, KeepsPatterns) {
  for (const std::int64_t width : {4, 16, 41, 50, 63}) {  // the last group of a row may be narrower
    const MatrixXd weight = random_matrix(9, width, 1);
    const InputMoments inputs = random_moments(width, 2);
    for (const std::string& method : kMethods) {
      for (const char* pattern : {"2:4", "4:8", "1:4", "3:5"}) {
        const Sparsity sparsity = parse_pattern(pattern);
        const MatrixXd found = pruned(method, weight, inputs, of_pattern(pattern, 10));
        for (Eigen::Index r = 0; r < 9; ++r) {
          for (Eigen::Index begin = 0; begin < width; begin += sparsity.of) {
            const Eigen::Index size = std::min<Eigen::Index>(sparsity.of, width - begin);
            const std::int64_t kept = (found.row(r).segment(begin, size).array() != 0).count();
            ASSERT_EQ(kept, std::min<std::int64_t>(size, sparsity.keep))
                << method << ", " << pattern << ", " << width << ", row " << r << ", column " << begin;
          }
        }
      }
    }
  }
}

TEST(Pruner, MagnitudeAndWandaRemoveTheLeastScores) {
  const MatrixXd weight = random_matrix(11, 30, 3);
  const InputMoments inputs = random_moments(30, 4);
  const MatrixXd by_size = pruned("magnitude", weight, inputs, of_share(0.4));
  const MatrixXd by_norm = pruned("wanda", weight, inputs, of_share(0.4));
  double most = 0;
  double least = std::numeric_limits<double>::infinity();
  for (Eigen::Index r = 0; r < 11; ++r) {
    double most_of_row = 0;
    double least_of_row = std::numeric_limits<double>::infinity();
    for (Eigen::Index i = 0; i < 30; ++i) {
      const double size = std::abs(weight(r, i));
      if (by_size(r, i) == 0) most = std::max(most, size);
      if (by_size(r, i) != 0) least = std::min(least, size);
      const double score = size * std::sqrt(inputs.products()(i, i));
      if (by_norm(r, i) == 0) most_of_row = std::max(most_of_row, score);
      if (by_norm(r, i) != 0) least_of_row = std::min(least_of_row, score);
      for (const MatrixXd* found : {&by_size, &by_norm}) {
        if ((*found)(r, i) != 0) {
          EXPECT_EQ((*found)(r, i), weight(r, i));
        }
      }
    }
    EXPECT_LT(most_of_row, least_of_row) << r;
  }
  EXPECT_LT(most, least);
}

// The single-removal score is what removing one weight alone costs, all others free.
TEST(Pruner, MultipleRemovalChoosesByWhatEachAloneCosts) {
  const MatrixXd weight = random_matrix(6, 12, 5);
  const InputMoments inputs = random_moments(12, 6);
  const Rows h = damped(inputs, 0.01);
  const MatrixXd found = pruned("mrp-sm", weight, inputs, of_share(0.5, 0));
  double most = 0;
  double least = std::numeric_limits<double>::infinity();
  for (Eigen::Index r = 0; r < 6; ++r) {
    const Row w = row_of(weight, r);
    for (std::size_t i = 0; i < 12; ++i) {
      std::vector<bool> one(12, false);
      one[i] = true;
      const double cost = error_of(w, removed_in_blocks(w, one, h, 12), h);
      if (found(r, static_cast<Eigen::Index>(i)) == 0) most = std::max(most, cost);
      if (found(r, static_cast<Eigen::Index>(i)) != 0) least = std::min(least, cost);
    }
    const Row best = removed_in_blocks(w, marks_of(zeros_of(found), r), h, 12);
    EXPECT_NEAR(error_of(w, row_of(found, r), h), error_of(w, best, h), 1e-8 * error_of(w, best, h));
  }
  EXPECT_LE(most, least * (1 + 1e-9));
}

// On real problems' scale: what is made good together costs less than one by one, and what is chosen together less.
TEST(Pruner, MethodsCostTheLessTheMoreTheyLookAt) {
  for (const PruneSettings& settings :
       {of_share(0.5, 32), of_share(0.7, 32), of_pattern("2:4", 32), of_pattern("4:8", 32)}) {
    std::map<std::string, double> sums;
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const MatrixXd weight = random_matrix(16, 96, seed);
      const InputMoments inputs = random_moments(96, seed + 50);
      const Rows h = damped(inputs, settings.damping);
      for (const std::string& method : kMethods) {
        const double error = total_error(weight, pruned(method, weight, inputs, settings), h);
        sums[method] += error;
        PruneSettings refined = settings;
        refined.refine = 10;
        const double better = total_error(weight, pruned(method, weight, inputs, refined), h);
        sums[method + ", refined"] += better;
      }
      PruneSettings blocks = settings;
      blocks.polish = false;
      sums["mrp-sm, not polished"] += total_error(weight, pruned("mrp-sm", weight, inputs, blocks), h);
    }
    const std::string what = settings.sparsity.text();
    EXPECT_LT(sums["wanda"], sums["magnitude"]) << what;
    EXPECT_LT(sums["sparsegpt"], sums["wanda"]) << what;
    EXPECT_LT(sums["mrp-sm"], sums["mrp-ss"]) << what;
    EXPECT_LT(sums["mrp-mm"], sums["mrp-sm"]) << what;
    EXPECT_LT(sums["mrp-sm"], sums["mrp-sm, not polished"]) << what;
    EXPECT_LT(sums["mrp-sm, not polished"], sums["mrp-ss"]) << what;
    for (const std::string& method : kMethods) {
      if (method != "sparsegpt") {
        EXPECT_LT(sums[method + ", refined"], sums[method]) << method << ", " << what;
      }
    }
  }
}

TEST(Pruner, LeavesZerosAlone) {
  MatrixXd weight = random_matrix(8, 40, 7);
  weight.row(2).setZero();
  for (Eigen::Index i = 0; i < 40; ++i) {
    if (i % 3 != 0) weight(5, i) = 0;  // sparser than what is asked for
  }
  const InputMoments inputs = random_moments(40, 8);
  for (const std::string& method : kMethods) {
    for (const PruneSettings& settings : {of_share(0.5), of_pattern("2:4"), of_share(0.1)}) {
      PruneSettings refined = settings;
      refined.refine = 5;
      for (const PruneSettings& tried : {settings, refined}) {
        const MatrixXd found = pruned(method, weight, inputs, tried);
        for (Eigen::Index i = 0; i < weight.size(); ++i) {
          if (weight.data()[i] == 0) {
            ASSERT_EQ(found.data()[i], 0) << method << ", " << settings.sparsity.text();
          }
        }
        ASSERT_TRUE(found.allFinite()) << method;
      }
    }
  }
}

// Inputs that were always 0: their weights cost nothing and go first. Without any, and with moments of rank one,
// numbers stay finite.
TEST(Pruner, TakesDeadInputsAndSingularMoments) {
  const MatrixXd weight = random_matrix(10, 24, 9);
  Rows dead = second_moments(random_inputs(100, 24, 10).matrix());
  for (std::size_t i = 0; i < 24; ++i) {
    for (const std::size_t k : {3U, 4U, 17U}) dead[i][k] = dead[k][i] = 0;
  }
  const Rows rank_one(24, Row(24, 2.0));
  for (const std::string& method : kMethods) {
    for (const double damping : {0.0, 0.01}) {
      for (PruneSettings settings : {of_share(0.5, 8), of_pattern("2:4", 8), of_share(0.5, 0)}) {
        settings.damping = damping;
        settings.refine = 3;
        for (const InputMoments& inputs : {moments_of(dead, 100), moments_of(rank_one, 1), InputMoments(24)}) {
          const MatrixXd found = pruned(method, weight, inputs, settings);
          ASSERT_TRUE(found.allFinite()) << method;
          EXPECT_EQ(zeros_in(found), 120) << method;
        }
        if (method == "magnitude") continue;
        settings.refine = 0;  // which may find a live weight that cancels what others lost
        const MatrixXd found = pruned(method, weight, moments_of(dead, 100), settings);
        for (const Eigen::Index column : {3, 4, 17}) {
          EXPECT_EQ((found.col(column).array() != 0).count(), 0) << method << ", damping " << damping;
        }
      }
    }
  }
}

TEST(Pruner, RefusesWhatIsNotFinite) {
  MatrixXd weight = random_matrix(3, 8, 1);
  Rows sums(8, Row(8, 0.0));
  sums[2][2] = std::numeric_limits<double>::infinity();
  for (const std::string& method : kMethods) {
    if (method != "magnitude") {
      EXPECT_THROW(pruned(method, weight, moments_of(sums, 1), of_share(0.5)), Error) << method;
    }
  }
  weight(2, 5) = std::numeric_limits<double>::quiet_NaN();
  for (const std::string& method : kMethods) {
    try {
      pruned(method, weight, random_moments(8, 1), of_share(0.5));
      ADD_FAILURE() << method;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("row 2, column 5"));
    }
  }
}

TEST(Pruner, IsTheSameForAnyNumberOfThreads) {
  const MatrixXd weight = random_matrix(83, 64, 2);
  const InputMoments inputs = random_moments(64, 3);
  const int before = num_threads();
  for (const std::string& method : kMethods) {
    std::vector<MatrixXd> results;
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      PruneSettings settings = of_share(0.5);
      settings.refine = 2;
      results.push_back(pruned(method, weight, inputs, settings));
    }
    EXPECT_EQ(results[0], results[1]) << method;
  }
  set_num_threads(before);
}

TEST(Sparsity, IsReadFromPatterns) {
  const Sparsity sparsity = parse_pattern("2:4");
  EXPECT_EQ(sparsity.keep, 2);
  EXPECT_EQ(sparsity.of, 4);
  EXPECT_EQ(sparsity.share, 0.5);
  EXPECT_EQ(sparsity.text(), "2:4");
  EXPECT_EQ(Sparsity{.share = 0.625}.text(), "62.5%");
  for (const char* wrong : {"", "2", "2:", ":4", "4:4", "0:4", "5:4", "2:4:8", "2:x", "-1:4", "2:32", " 2:4"}) {
    EXPECT_THROW(parse_pattern(wrong), Error) << wrong;
  }
}

}  // namespace
}  // namespace molt
