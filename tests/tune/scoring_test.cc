// Trial: its losses against a count by hand, and that vary() gives what evaluate() does.
#include "tune/scoring.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "molt/reduction.h"
#include "molt/session.h"
#include "tests/tune/problems.h"

namespace molt {
namespace {

using testing_support::demo_model;
using testing_support::random_fitter;
using testing_support::random_probes;
using testing_support::surrogate;
using testing_support::tiny_model;

class Scoring : public testing::TestWithParam<std::string> {
 protected:
  std::int64_t layers() const { return model_.core()->config().n_layer; }

  char writing() const { return model_.core()->block(0).heads() > 0 ? 'L' : 'W'; }

  SurrogateSchedule schedule(const std::vector<std::string>& ops) const {
    SurrogateRule rule;
    for (std::size_t t = 0; t < ops.size(); ++t) {
      rule.tiers.push_back({0.9 * static_cast<double>(t + 1) / static_cast<double>(ops.size()), ops[t]});
    }
    return {rule};
  }

  Model model_ = GetParam() == "demo" ? Model::load(demo_model()) : tiny_model(GetParam());
  std::unique_ptr<MapFitter> fitter_ = random_fitter(model_, 1);
};

/// log softmax, in double precision.
std::vector<double> log_probabilities(std::span<const float> logits) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  std::vector<double> result;
  for (const float logit : logits) result.push_back(logit - std::log(sum));
  return result;
}

/// The log-probabilities behind a prompt and behind each token that follows it, but the last.
std::vector<std::vector<double>> run(const Model& model, const Probe& probe, const Reduction* reduction) {
  Session session(model);
  State state(model);
  std::vector<std::vector<double>> result{
      log_probabilities(session.feed(state, probe.prompt, {.reduction = reduction}))};
  for (std::size_t i = 0; i + 1 < probe.next.size(); ++i) {
    result.push_back(log_probabilities(session.feed(state, {&probe.next[i], 1})));
  }
  return result;
}

TEST_P(Scoring, LossesAreThoseOfASessionCountedByHand) {
  for (const std::size_t next : {1, 4}) {
    const ProbeSet probes = random_probes(model_, 5, 48, next, 2);
    Trial trial(*model_.core(), probes);
    for (const std::string spec : {"none", "truncate:flops=0.3", "utr:flops=0.1"}) {
      const Reduction reduction = Reduction::parse(model_, spec);
      double kl = 0;
      double nll = 0;
      double count = 0;
      for (const Probe& probe : probes.probes) {
        const auto dense = run(model_, probe, nullptr);
        const auto reduced = run(model_, probe, &reduction);
        for (std::size_t i = 0; i < dense.size(); ++i) {
          const auto target = static_cast<std::size_t>(probe.next[i]);
          for (std::size_t v = 0; v < dense[i].size(); ++v) {
            kl += std::exp(dense[i][v]) * (dense[i][v] - reduced[i][v]);
          }
          nll += dense[i][target] - reduced[i][target];
          ++count;
        }
      }
      const Loss loss = trial.evaluate(reduction.core());
      EXPECT_NEAR(loss.kl, kl / count, 1e-5 + 1e-4 * std::abs(kl / count)) << spec;
      EXPECT_NEAR(loss.nll, nll / count, 1e-5 + 1e-4 * std::abs(nll / count)) << spec;
      if (spec == "none") {
        EXPECT_LT(std::abs(loss.kl), 1e-6);
        EXPECT_EQ(loss.cut, 0);
      } else {
        EXPECT_GT(loss.kl, spec.starts_with("utr") ? 1e-6 : -1e-6) << spec;  // tiny models forget what truncation cuts
        EXPECT_NEAR(loss.cut, reduction.flops(), 0.05) << spec;
      }
    }
  }
}

TEST_P(Scoring, VaryingFromALayerOnIsEvaluatingTheWhole) {
  Random random(3);
  const char letters[] = {'F', 'F', writing(), 'S'};
  for (const std::size_t next : {1, 3}) {  // one: nothing is fed after the prompts, and no state is kept
    Trial trial(*model_.core(), random_probes(model_, 6, 50, next, 4));
    for (int repetition = 0; repetition < 3; ++repetition) {
      std::vector<std::string> kept(2, std::string(static_cast<std::size_t>(layers()), 'F'));
      for (std::string& ops : kept) {
        for (char& letter : ops) letter = letters[random.next() % std::size(letters)];
      }
      trial.evaluate(surrogate(model_, *fitter_, schedule(kept)), true);
      for (std::int64_t layer = 0; layer<layers(); layer += layers()> 8 ? 4 : 1) {
        for (const char letter : {'F', writing(), 'S'}) {
          std::vector<std::string> varied = kept;
          varied[random.next() % 2][static_cast<std::size_t>(layer)] = letter;
          SCOPED_TRACE(fmt::format("{} to {} from layer {} on", fmt::join(kept, " "), fmt::join(varied, " "), layer));
          const Reduction::Core reduction = surrogate(model_, *fitter_, schedule(varied));
          const Loss resumed = trial.vary(reduction, layer);
          const Loss whole = trial.evaluate(reduction);
          EXPECT_NEAR(resumed.kl, whole.kl, 1e-7 + 1e-5 * std::abs(whole.kl));
          EXPECT_NEAR(resumed.nll, whole.nll, 1e-6 + 1e-5 * std::abs(whole.nll));
          EXPECT_GT(whole.cut, 0);
        }
      }
    }
  }
}

TEST_P(Scoring, FirstTokensAreScoredAsInASession) {
  const ProbeSet probes = random_probes(model_, 4, 30, 2, 5);
  const std::vector<double> nll = first_nll(*model_.core(), probes.probes);
  ASSERT_EQ(nll.size(), 4U);
  for (std::size_t p = 0; p < nll.size(); ++p) {
    const auto dense = run(model_, probes.probes[p], nullptr);
    EXPECT_NEAR(nll[p], -dense[0][static_cast<std::size_t>(probes.probes[p].next[0])], 1e-4);
  }
  EXPECT_TRUE(first_nll(*model_.core(), {}).empty());
}

INSTANTIATE_TEST_SUITE_P(Models, Scoring, testing::Values("mamba1-tiny", "mamba2-tiny", "mamba2-groups", "demo"),
                         testing_support::model_name);

}  // namespace
}  // namespace molt
