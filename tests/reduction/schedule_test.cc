// Sites, keep ratios and counts against the paper's figures and arithmetic done another way.
#include "reduction/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "molt/error.h"

namespace molt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(PaperSites, OfThePaperAndScaled) {
  EXPECT_THAT(paper_sites(64), ElementsAre(12, 17, 22, 27, 32, 37, 42));
  EXPECT_THAT(paper_sites(48), ElementsAre(10, 15, 20, 25, 30, 35));
  EXPECT_THAT(paper_sites(24), ElementsAre(4, 6, 8, 10, 12, 14, 16));
  EXPECT_THAT(paper_sites(16), ElementsAre(3, 4, 5, 6, 8, 9, 10));
}

TEST(PaperSites, OfAnyDepthAscendAndLeaveABlockBehind) {
  for (std::int64_t layers = 1; layers < 200; ++layers) {
    const std::vector<std::int64_t> sites = paper_sites(layers);
    EXPECT_EQ(sites.empty(), layers == 1);
    for (std::size_t i = 0; i < sites.size(); ++i) {
      EXPECT_GE(sites[i], i == 0 ? 0 : sites[i - 1] + 1);
      EXPECT_LT(sites[i], layers - 1);
    }
  }
}

TEST(SolveSchedule, RatiosOfThePaper) {
  const auto ratio = [](std::int64_t layers, double flops) {
    return solve_schedule(paper_sites(layers), layers, flops, Ramp::flat).ratios.front();
  };
  EXPECT_NEAR(ratio(64, 0.1), 0.9729, 5e-5);
  EXPECT_NEAR(ratio(64, 0.2), 0.9415, 5e-5);
  EXPECT_NEAR(ratio(64, 0.3), 0.9043, 5e-5);
  EXPECT_NEAR(ratio(48, 0.1), 0.9651, 5e-5);
  EXPECT_NEAR(ratio(48, 0.2), 0.9248, 5e-5);
  EXPECT_NEAR(ratio(48, 0.3), 0.8768, 5e-5);
  EXPECT_NEAR(ratio(16, 0.2), 0.9381576377830838, 1e-12);
  EXPECT_NEAR(ratio(24, 0.2), 0.939165167135904, 1e-12);
}

TEST(SolveSchedule, MeetsTheCutWithEveryRamp) {
  for (const std::int64_t layers : {2, 3, 7, 16, 24, 48, 64}) {
    for (const double flops : {0.001, 0.05, 0.17, 0.3}) {
      for (const Ramp ramp : {Ramp::flat, Ramp::rising, Ramp::falling}) {
        const Schedule schedule = solve_schedule(paper_sites(layers), layers, flops, ramp);
        EXPECT_NEAR(cut_of(schedule, layers), flops, 1e-12);
        // The definition, layer by layer.
        double sum = 0;
        for (std::int64_t layer = 0; layer < layers; ++layer) {
          double length = 1;
          for (std::size_t i = 0; i < schedule.sites.size(); ++i) {
            if (schedule.sites[i] < layer) length *= schedule.ratios[i];
          }
          sum += length;
        }
        EXPECT_NEAR(1 - sum / static_cast<double>(layers), flops, 1e-12);
        for (std::size_t i = 0; i + 1 < schedule.ratios.size(); ++i) {
          const double step = schedule.ratios[i] - schedule.ratios[i + 1];  // of the share removed
          if (ramp == Ramp::flat) {
            EXPECT_EQ(step, 0);
          }
          if (ramp == Ramp::rising) {
            EXPECT_GT(step, 0);
          }
          if (ramp == Ramp::falling) {
            EXPECT_LT(step, 0);
          }
          if (i > 0) {
            EXPECT_NEAR(step, schedule.ratios[i - 1] - schedule.ratios[i], 1e-12);
          }  // linear
        }
      }
    }
  }
}

TEST(SolveSchedule, NothingIsExactlyNothing) {
  for (const double ratio : solve_schedule({3, 5}, 16, 0, Ramp::rising).ratios) EXPECT_EQ(ratio, 1.0);
}

TEST(SolveSchedule, RefusesWhatCannotBe) {
  try {
    solve_schedule({10, 12}, 16, 0.5, Ramp::flat);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("(10+12) of 16 can cut at most 0.312 of the FLOPs, not 0.5"));
  }
  EXPECT_THROW(solve_schedule({}, 16, 0.1, Ramp::flat), Error);
}

TEST(TokensKept, RoundsUpAndLeavesTwo) {
  EXPECT_EQ(tokens_kept(300, 0.939165167135904), 282);
  EXPECT_EQ(tokens_kept(10, 0.5), 5);
  EXPECT_EQ(tokens_kept(11, 0.5), 6);
  EXPECT_EQ(tokens_kept(11, 1.0), 11);
  EXPECT_EQ(tokens_kept(11, 0.0), 2);
  EXPECT_EQ(tokens_kept(2, 0.1), 2);
  EXPECT_EQ(tokens_kept(1, 0.1), 1);
  EXPECT_EQ(tokens_kept(0, 0.1), 0);
}

}  // namespace
}  // namespace molt
