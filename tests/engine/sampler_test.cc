// Sampler: what is drawn, how often, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "molt/generate.h"

namespace molt {
namespace {

using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenId greedy(const std::vector<float>& logits) {
  return Sampler({}).next(logits, static_cast<std::int64_t>(logits.size()), {});
}

/// How often each token is drawn in `draws` draws.
std::vector<double> histogram(const SamplingOptions& options, const std::vector<float>& logits, int draws,
                              std::span<const TokenId> seen = {}) {
  Sampler sampler(options);
  std::vector<double> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    ++counts[static_cast<std::size_t>(sampler.next(logits, static_cast<std::int64_t>(logits.size()), seen))];
  }
  return counts;
}

/// Pearson's statistic of counts against weights; tokens of weight 0 must not occur.
double chi_square(const std::vector<double>& counts, const std::vector<double>& weights) {
  const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = draws * weights[i] / total;
    if (weights[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
    } else {
      sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
  }
  return sum;
}

std::string refusal(const SamplingOptions& options) {
  try {
    Sampler sampler(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "not refused";
}

TEST(SamplerGreedy, TakesTheGreatestLogitAndTheLowestIdAmongEquals) {
  EXPECT_EQ(greedy({0.5F, 3, -1, 3, 3}), 1);
  EXPECT_EQ(greedy({-7, -7}), 0);
}

TEST(SamplerGreedy, PassesOverNanAndInfinitelySmallLogits) {
  EXPECT_EQ(greedy({kNan, -kInf, -5, kNan, -4}), 4);
}

TEST(SamplerGreedy, RefusesLogitsWithoutAFiniteMaximum) {
  EXPECT_THROW(greedy({kNan, kNan}), Error);
  EXPECT_THROW(greedy({-kInf, -kInf}), Error);
  EXPECT_THROW(greedy({1, kInf}), Error);
}

TEST(SamplerGreedy, DrawsOnlyUsableTokens) {
  const std::vector<float> logits{1, 2, 9};
  EXPECT_EQ(Sampler({}).next(logits, 2, {}), 1);
  EXPECT_THROW(Sampler({}).next(logits, 0, {}), Error);
  EXPECT_THROW(Sampler({}).next(logits, 4, {}), Error);
}

// Critical values of chi-square at 1e-6: a fixed seed makes the outcome the same on every machine.
TEST(SamplerDistribution, FollowsTheSoftmaxAtATemperature) {
  const std::vector<float> logits{0, 1, 2, -1, 0.5F, kNan, -kInf};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::vector<double> weights;
    for (const float logit : logits) weights.push_back(std::isfinite(logit) ? std::exp(logit / temperature) : 0);
    const auto counts = histogram({.temperature = temperature, .seed = 11}, logits, 20000);
    EXPECT_LT(chi_square(counts, weights), 33.4) << "4 degrees of freedom, temperature " << temperature;
  }
}

TEST(SamplerDistribution, KeepsWhatTopKTopPAndMinPKeep) {
  // Probabilities 0.4, 0.3, 0.2, 0.1, not in order.
  const std::vector<float> logits{std::log(0.2F), std::log(0.4F), std::log(0.1F), std::log(0.3F)};
  const auto check = [&](SamplingOptions options, const std::vector<double>& weights) {
    options.temperature = 1;
    options.seed = 5;
    EXPECT_LT(chi_square(histogram(options, logits, 20000), weights), 30.7);
  };
  check({.top_k = 2}, {0, 0.4, 0, 0.3});
  check({.top_k = 99}, {0.2, 0.4, 0.1, 0.3});
  check({.top_p = 0.65}, {0, 0.4, 0, 0.3});
  check({.top_p = 0.75}, {0.2, 0.4, 0, 0.3});
  check({.top_p = 1e-9}, {0, 1, 0, 0});
  check({.min_p = 0.45}, {0.2, 0.4, 0, 0.3});
  check({.min_p = 1}, {0, 1, 0, 0});
  check({.top_k = 3, .top_p = 0.7}, {0, 0.4, 0, 0.3});  // of the three, 0.4 / 0.9 is not enough, 0.7 / 0.9 is
}

TEST(SamplerDistribution, TopOneIsGreedyWithTiesToTheLowestId) {
  const auto counts = histogram({.temperature = 3, .top_k = 1, .seed = 2}, {1, 4, 4, 2}, 200);
  EXPECT_EQ(counts, (std::vector<double>{0, 200, 0, 0}));
}

TEST(SamplerDistribution, ATinyTemperatureIsGreedy) {
  EXPECT_EQ(histogram({.temperature = 1e-300, .seed = 2}, {1, 4, 3.999F}, 100)[1], 100);
}

TEST(SamplerSeed, DecidesTheDraws) {
  const std::vector<float> logits(50, 0.0F);
  const auto draw = [&](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<TokenId> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.next(logits, 50, {}));
    return ids;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST(SamplerRepetitionPenalty, MakesSeenTokensLessLikelyOnceAToken) {
  const std::vector<TokenId> seen{0, 0, 0, 2, 99};  // 99 is beyond the logits: passed over
  Sampler sampler({.repetition_penalty = 2});
  EXPECT_EQ(sampler.next(std::vector<float>{8, 3.5F, -1}, 3, seen), 0) << "8 / 2, however often it was seen";
  EXPECT_EQ(sampler.next(std::vector<float>{6, 3.5F, -1}, 3, seen), 1);
  EXPECT_EQ(sampler.next(std::vector<float>{-9, -1.5F, -1}, 3, seen), 1) << "negative logits are multiplied";
  EXPECT_EQ(sampler.next(std::vector<float>{6, 3.5F, -1}, 3, {}), 0);
}

TEST(SamplerOptions, OutOfRangeAreRefusedByName) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-0.1, nan, inf}) EXPECT_THAT(refusal({.temperature = bad}), HasSubstr("temperature"));
  EXPECT_THAT(refusal({.top_k = -1}), HasSubstr("top-k"));
  for (const double bad : {0.0, -1.0, 1.01, nan}) EXPECT_THAT(refusal({.top_p = bad}), HasSubstr("top-p"));
  for (const double bad : {-0.01, 1.01, nan}) EXPECT_THAT(refusal({.min_p = bad}), HasSubstr("min-p"));
  for (const double bad : {0.0, -1.0, inf, nan}) {
    EXPECT_THAT(refusal({.repetition_penalty = bad}), HasSubstr("repetition penalty"));
  }
  EXPECT_EQ(refusal({.temperature = 0, .top_k = 0, .top_p = 1, .min_p = 1, .repetition_penalty = 0.5}), "not refused");
}

}  // namespace
}  // namespace molt
