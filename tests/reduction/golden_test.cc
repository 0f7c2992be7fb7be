// Token reduction of the trained models against an independent implementation in NumPy (tests/fixtures/reduction): who
// stays, who is merged into whom, the logits behind the prompt, and what the reduced state makes of the text that
// follows.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/json_file.h"
#include "io/safetensors.h"
#include "molt/session.h"
#include "reduction/core.h"
#include "tests/support/backends.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::large_model;
using testing_support::shared;

constexpr double kTolerance = 1e-4;

/// The spec under which molt knows a golden method.
std::string spec_of(const std::string& golden, const Json& values) {
  if (golden == "dense") return "none";
  if (golden == "skip_oldest") {
    return fmt::format("bypass:flops=0.2,from={},to={}", values["a"].get<int>(), values["b"].get<int>());
  }
  if (golden == "utr_rh") return "utr:flops=0.2,feature=r+h";
  if (golden == "oldest_d") return "oldest:flops=0.2,carry=on";
  if (golden == "contrib_d") return "contrib:flops=0.2";
  if (golden == "released") return "utr-released:flops=0.2";
  return golden + ":flops=0.2";
}

double log_probability(std::span<const float> logits, TokenId id) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return logits[static_cast<std::size_t>(id)] - top - std::log(sum);
}

struct Case {
  std::string model;
  std::string backend;

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.model << " on " << c.backend; }
};

class ReductionGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const bool demo = GetParam().model == "mamba2-demo-11m";
    const std::string path = demo ? fixture("reduction/demo.json") : shared("golden/reduction/goldens.json");
    MOLT_NEEDS(path);
    MOLT_NEEDS_BACKEND(GetParam().backend);
    MOLT_NEEDS(large_model(GetParam().model));
    golden_ = read_json_file(path)[GetParam().model];
    logits_ = read_safetensors(fixture("reduction/last_logits.safetensors"));
  }

  void expect_plans(const Json& golden, const ReductionRecord& record) const {
    if (!golden.contains("plans")) return;  // dense, and tokens that come back
    for (const auto& [site, positions] : golden["survivors"].items()) {
      EXPECT_EQ(record.survivors(std::stoll(site)), positions.get<std::vector<std::int64_t>>()) << "behind " << site;
    }
    for (const auto& [site, plan] : golden["plans"].items()) {
      std::vector<std::int64_t> removed;
      std::vector<std::int64_t> hidden;
      std::vector<std::int64_t> residual;
      for (const TokenFate& fate : record.fates) {
        if (fate.site != std::stoll(site)) continue;
        removed.push_back(fate.position);
        hidden.push_back(fate.hidden_into);
        residual.push_back(fate.residual_into);
        EXPECT_EQ(fate.return_at, -1);
      }
      EXPECT_EQ(removed, plan["removed"].get<std::vector<std::int64_t>>()) << "behind " << site;
      EXPECT_EQ(hidden, plan["target_hidden"].get<std::vector<std::int64_t>>()) << "behind " << site;
      EXPECT_EQ(residual, plan["target_residual"].get<std::vector<std::int64_t>>()) << "behind " << site;
    }
  }

  void expect_logits(const std::string& method, std::span<const float> logits) const {
    const Tensor& expected = logits_.tensors.at(GetParam().model + "." + method);
    const double largest = expected.as<float>()[0];
    double worst = 0;
    for (std::int64_t i = 1; i < expected.size(); ++i) {
      const auto id = static_cast<std::size_t>(8 * (i - 1));
      worst = std::max(worst, std::abs(static_cast<double>(logits[id]) - expected.as<float>()[i]));
    }
    EXPECT_LE(worst, kTolerance * largest);
  }

  Json golden_;
  SafetensorsFile logits_;
};

TEST_P(ReductionGolden, PlansLogitsAndContinuations) {
  const Model model =
      Model::load(large_model(GetParam().model), {.weights = WeightType::f32, .backend = GetParam().backend});
  const auto prompt = golden_["prompt_ids"].get<std::vector<TokenId>>();
  const auto continuation = golden_["cont_ids"].get<std::vector<TokenId>>();
  Session session(model);
  for (const auto& [method, golden] : golden_["methods"].items()) {
    SCOPED_TRACE(method);
    const Reduction reduction = Reduction::parse(model, spec_of(method, golden));
    State state(model);
    ReductionRecord record;
    const auto logits = session.feed(state, prompt, {.reduction = &reduction, .record = &record});
    expect_plans(golden, record);
    expect_logits(method, logits);
    if (method == "skip_oldest") {
      const std::int64_t first = golden["skipped_positions"][0].get<std::int64_t>();
      const std::int64_t last = golden["skipped_positions"][1].get<std::int64_t>();
      ASSERT_EQ(static_cast<std::int64_t>(record.fates.size()), last - first + 1);
      EXPECT_EQ(record.fates.front().position, first);
      EXPECT_EQ(record.fates.back().position, last);
      EXPECT_EQ(record.fates.front().return_at, golden["b"].get<std::int64_t>());
    }

    const auto expected = golden["logprob_next32"].get<std::vector<double>>();
    ASSERT_EQ(expected.size(), continuation.size());
    EXPECT_NEAR(log_probability(logits, continuation[0]), expected[0], kTolerance);
    const Sequence sequence{&state, continuation};
    session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t position, std::span<const float> next) {
      const auto i = static_cast<std::size_t>(position) + 1;
      if (i < expected.size()) {
        EXPECT_NEAR(log_probability(next, continuation[i]), expected[i], kTolerance) << "token " << i;
      }
    });
  }
}

TEST_P(ReductionGolden, SchedulesAreTheSame) {
  const Model model =
      Model::load(large_model(GetParam().model), {.weights = WeightType::f32, .backend = GetParam().backend});
  const Schedule schedule = Reduction::parse(model, "utr:flops=0.2").core().schedule;
  EXPECT_EQ(schedule.sites, golden_["sites"].get<std::vector<std::int64_t>>());
  for (const double ratio : schedule.ratios) EXPECT_NEAR(ratio, golden_["rho"].get<double>(), 1e-12);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.model + (info.param.backend == "cpu" ? "" : "_" + info.param.backend);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, ReductionGolden,
                         testing::Values(Case{"mamba2-demo-11m", "cpu"}, Case{"mamba2-49m", "cpu"},
                                         Case{"mamba1-49m", "cpu"}, Case{"mamba2-demo-11m", "cuda"},
                                         Case{"mamba2-49m", "cuda"}, Case{"mamba1-49m", "cuda"}),
                         case_name);

}  // namespace
}  // namespace molt
