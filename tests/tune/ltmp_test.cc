// Calibration of ltmp: the cut that is asked for, on text that the thresholds never saw.
#include "tune/ltmp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "molt/error.h"
#include "molt/reduction.h"
#include "molt/session.h"
#include "reduction/schedule.h"
#include "tests/tune/problems.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::random_documents;
using testing_support::TempFolder;
using testing_support::tiny_model;

Windows views(const Documents& documents) {
  return {documents.begin(), documents.end()};
}

Reduction saved(const Model& model, const LtmpThresholds& thresholds, const std::string& path) {
  save_ltmp(thresholds, 0.25, path);
  return Reduction::parse(model, path);
}

class LtmpOfTinyModels : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::int64_t> sites() const { return {0, 1}; }  // of three blocks

  LtmpThresholds calibrated(const Windows& windows, double flops) const {
    return calibrate_ltmp(*model_.core(), sites(), windows, flops, {});
  }

  TempFolder folder_;
  Model model_ = tiny_model(GetParam());
};

TEST_P(LtmpOfTinyModels, TheMeanCutIsTheOneAskedFor) {
  const Documents texts = random_documents(model_, 16, 200, 1);
  const Documents others = random_documents(model_, 16, 200, 2);
  for (const double flops : {0.02, 0.25, 0.5}) {
    const LtmpThresholds thresholds = calibrated(views(texts), flops);
    const Cuts same = measure_cuts(*model_.core(), thresholds, views(texts));
    const Cuts other = measure_cuts(*model_.core(), thresholds, views(others));
    EXPECT_NEAR(same.mean, flops, 0.003) << "on its own text";
    EXPECT_NEAR(other.mean, flops, 0.02) << "on other text";
    EXPECT_EQ(other.windows, 16);
    EXPECT_LT(other.least, other.mean);
    EXPECT_GT(other.most, other.mean);
  }
}

// Half of what a site removes is pruned, half is merged, counted over all windows.
TEST_P(LtmpOfTinyModels, SitesRemoveTheirShares) {
  const Documents texts = random_documents(model_, 20, 150, 3);
  const double flops = 0.25;
  const Reduction reduction = saved(model_, calibrated(views(texts), flops), folder_ / "ltmp.json");
  const Schedule schedule = solve_schedule(sites(), 3, flops, Ramp::flat);
  std::map<std::int64_t, std::map<TokenFate::Kind, double>> fates;
  Session session(model_);
  double cut = 0;
  for (const auto& text : texts) {
    State state(model_);
    ReductionRecord record;
    session.feed(state, text, {.reduction = &reduction, .record = &record});
    for (const TokenFate& fate : record.fates) ++fates[fate.site][fate.kind];
    cut += record.cut() / static_cast<double>(texts.size());
  }
  EXPECT_NEAR(cut, measure_cuts(*model_.core(), calibrated(views(texts), flops), views(texts)).mean, 1e-6)
      << "a session does what the calibration did";
  double tokens = 20 * 150;
  for (std::size_t i = 0; i < schedule.sites.size(); ++i) {
    const double half = (1 - schedule.ratios[i]) / 2 * tokens;
    EXPECT_NEAR(fates[schedule.sites[i]][TokenFate::Kind::pruned], half, 2);
    EXPECT_NEAR(fates[schedule.sites[i]][TokenFate::Kind::merged], half, 2);
    tokens *= schedule.ratios[i];
  }
}

TEST_P(LtmpOfTinyModels, WhatSitesCannotCutIsRefused) {
  const Documents texts = random_documents(model_, 4, 50, 4);
  try {
    calibrated(views(texts), 0.7);  // the first of three blocks always runs
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("0.667"), HasSubstr("not 0.7")));
  }
}

// All scores alike: thresholds cannot tell tokens apart, but nothing breaks.
TEST_P(LtmpOfTinyModels, RepeatedTokensAreNoTrouble) {
  const Documents texts(4, std::vector<TokenId>(60, 7));
  const Reduction reduction = saved(model_, calibrated(views(texts), 0.3), folder_ / "ltmp.json");
  for (const std::size_t length : {1, 2, 3, 60}) {
    Session session(model_);
    State state(model_);
    ReductionRecord record;
    session.feed(state, std::span(texts[0]).first(length), {.reduction = &reduction, .record = &record});
    EXPECT_GE(record.cut(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LtmpOfTinyModels, testing::Values("mamba1-tiny", "mamba2-tiny", "falcon-mamba-tiny"),
                         testing_support::model_name);

class LtmpOfText : public testing::Test {
 protected:
  TempFolder folder_;
  Model model_ = Model::load(testing_support::demo_model());
};

TEST_F(LtmpOfText, TheCutHoldsOnOtherText) {
  const std::vector<TokenId> ids = model_.tokenizer().encode(testing_support::document_text());
  Windows windows[2];
  for (std::size_t i = 0; (i + 1) * 256 <= ids.size() && i < 48; ++i) {
    windows[i % 2].push_back(std::span(ids).subspan(i * 256, 256));
  }
  ASSERT_GE(windows[1].size(), 20U);
  const LtmpThresholds thresholds =
      calibrate_ltmp(*model_.core(), paper_sites(model_.core()->config().n_layer), windows[0], 0.3, {});
  EXPECT_NEAR(measure_cuts(*model_.core(), thresholds, windows[0]).mean, 0.3, 0.005);
  EXPECT_NEAR(measure_cuts(*model_.core(), thresholds, windows[1]).mean, 0.3, 0.03)
      << "two points, and the noise of so few windows";
}

TEST_F(LtmpOfText, ThresholdsAreReadAsTheyWereWritten) {
  const LtmpThresholds thresholds{{1, 4, 9}, {1.25e-7, LtmpThresholds::kPruneNone, 1e30}, {0.1F, 2, -2}};
  const Reduction reduction = saved(model_, thresholds, folder_ / "ltmp.json");
  const auto json = nlohmann::json::parse(reduction.text());
  EXPECT_EQ(reduction.method(), "ltmp");
  EXPECT_EQ(reduction.flops(), 0.25);
  EXPECT_EQ(json["sites"].get<std::vector<std::int64_t>>(), thresholds.sites);
  EXPECT_EQ(json["prune_below"].get<std::vector<double>>(), thresholds.prune_below);
  EXPECT_EQ(json["merge_above"].get<std::vector<double>>(), thresholds.merge_above);
}

TEST_F(LtmpOfText, TooShortIsRefused) {
  const auto refusal = [&](const std::string& text) {
    try {
      tune_ltmp(model_, text, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  for (const std::string text : {"", "a few words", "<|endoftext|>"}) {
    EXPECT_THAT(refusal(text), testing::AllOf(HasSubstr("the calibration text is too short"), HasSubstr("0 windows")));
  }
  EXPECT_THAT(refusal(testing_support::document_text()), HasSubstr("too short")) << "nothing is left to hold apart";
}

}  // namespace
}  // namespace molt
