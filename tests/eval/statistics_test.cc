#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"

namespace molt::eval {
namespace {

TEST(Statistics, IndependentItemsByHand) {
  // Deviations -1.5, -.5, .5, 1.5: s^2 = 5 / 3, error = s / 2.
  const Estimate e = estimate(std::vector<double>{1, 2, 3, 4}, std::vector<std::int64_t>{7, 3, 9, 1});
  EXPECT_DOUBLE_EQ(e.mean, 2.5);
  EXPECT_DOUBLE_EQ(e.error, std::sqrt(5.0 / 3) / 2);
  EXPECT_EQ(e.items, 4);
  EXPECT_EQ(e.clusters, 4);
}

TEST(Statistics, ClustersByHand) {
  // Sums of deviations -2 and 2: error = sqrt(2 / 1 * 8) / 4.
  const Estimate e = estimate(std::vector<double>{1, 2, 3, 4}, std::vector<std::int64_t>{5, 5, 6, 6});
  EXPECT_DOUBLE_EQ(e.error, 1.0);
  EXPECT_EQ(e.clusters, 2);
  // Deviations within a cluster that cancel leave none: (-1.5 + 1.5), (-.5 + .5).
  EXPECT_DOUBLE_EQ(estimate(std::vector<double>{1, 2, 3, 4}, std::vector<std::int64_t>{5, 6, 6, 5}).error, 0.0);
}

TEST(Statistics, OneClusterTellsNoError) {
  EXPECT_TRUE(std::isnan(estimate(std::vector<double>{1}, std::vector<std::int64_t>{0}).error));
  EXPECT_TRUE(std::isnan(estimate(std::vector<double>{1, 2}, std::vector<std::int64_t>{4, 4}).error));
}

TEST(Statistics, WeightsByHand) {
  // A ratio of sums: (1 * 2 + 3 * 6) / 4 = 5, deviations 1 * -3 and 3 * 1, error = sqrt(2 * 18) / 4.
  const Estimate e = estimate(std::vector<double>{2, 6}, std::vector<std::int64_t>{0, 1}, std::vector<double>{1, 3});
  EXPECT_DOUBLE_EQ(e.mean, 5);
  EXPECT_DOUBLE_EQ(e.error, 1.5);
  const std::vector<double> values{1, 2, 3, 4};
  const std::vector<std::int64_t> clusters{5, 5, 6, 7};
  const Estimate alike = estimate(values, clusters, std::vector<double>{7, 7, 7, 7});
  EXPECT_DOUBLE_EQ(alike.mean, estimate(values, clusters).mean);
  EXPECT_DOUBLE_EQ(alike.error, estimate(values, clusters).error);
}

TEST(Statistics, ErrorIsTheSpreadOfMeans) {
  // Means of 30 clusters of 4 whose items share half of their variance, drawn again and again.
  Random random(11);
  std::vector<double> means;
  double errors = 0;
  for (int draw = 0; draw < 400; ++draw) {
    std::vector<double> values;
    std::vector<std::int64_t> clusters;
    for (std::int64_t cluster = 0; cluster < 30; ++cluster) {
      const double common = random.normal();
      for (int i = 0; i < 4; ++i) {
        values.push_back(common + random.normal());
        clusters.push_back(cluster);
      }
    }
    const Estimate e = estimate(values, clusters);
    means.push_back(e.mean);
    errors += e.error / 400;
  }
  const double center = std::accumulate(means.begin(), means.end(), 0.0) / 400;
  double spread = 0;
  for (const double mean : means) spread += (mean - center) * (mean - center) / 399;
  EXPECT_NEAR(errors / std::sqrt(spread), 1.0, 0.1);
}

}  // namespace
}  // namespace molt::eval
