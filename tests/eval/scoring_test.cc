#include "eval/scoring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "molt/error.h"
#include "tests/eval/problems.h"

namespace molt::eval {
namespace {

using testing_support::pointers_to;
using testing_support::random_ids;
using testing_support::random_prompts;
using testing_support::tiny_model;

class Scoring : public testing::TestWithParam<std::string> {
 protected:
  Model model_ = tiny_model(GetParam());

  /// Log-probabilities by the shortest way: the whole text through the model at once.
  std::vector<double> expected(const std::vector<TokenId>& context, const std::vector<TokenId>& continuation) const {
    std::vector<TokenId> ids = context;
    ids.insert(ids.end(), continuation.begin(), continuation.end());
    Session session(model_);
    State state(model_);
    const Sequence sequence{&state, ids};
    std::vector<double> logprobs;
    session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t position, std::span<const float> logits) {
      const auto next = static_cast<std::size_t>(position) + 1;
      if (next < context.size() || next >= ids.size()) return;
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      logprobs.push_back(static_cast<double>(logits[static_cast<std::size_t>(ids[next])]) - std::log(sum));
    });
    return logprobs;
  }
};

TEST_P(Scoring, IsTheLogProbabilityOfEachToken) {
  const std::vector<Prompt> prompts = random_prompts(model_, 12, 3);
  Scorer scorer(model_, 2048);
  const auto outcomes = scorer.score(pointers_to(prompts), nullptr);
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    for (std::size_t c = 0; c < prompts[p].continuations.size(); ++c) {
      const auto wanted = expected(prompts[p].context, prompts[p].continuations[c]);
      const auto& got = outcomes[p].scores[c].logprobs;
      ASSERT_EQ(got.size(), wanted.size());
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-4);
    }
  }
}

TEST_P(Scoring, OthersInTheBatchChangeNothing) {
  const std::vector<Prompt> prompts = random_prompts(model_, 10, 5);
  const auto pointers = pointers_to(prompts);
  for (const char* spec : {"", "oldest:flops=0.3,carry=on", "utr:flops=0.3", "bypass:flops=0.3"}) {
    const std::optional<Reduction> reduction =
        *spec != '\0' ? std::optional(Reduction::parse(model_, spec)) : std::nullopt;
    const Reduction* reduce = reduction ? &*reduction : nullptr;
    Scorer together(model_, 100);
    const auto all = together.score(pointers, reduce);
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      Scorer alone(model_, 100);
      const auto one = alone.score({&pointers[p], 1}, reduce);
      EXPECT_DOUBLE_EQ(one[0].cut(), all[p].cut());
      for (std::size_t c = 0; c < prompts[p].continuations.size(); ++c) {
        EXPECT_EQ(one[0].scores[c].greedy, all[p].scores[c].greedy);
        for (std::size_t i = 0; i < prompts[p].continuations[c].size(); ++i) {
          EXPECT_NEAR(one[0].scores[c].logprobs[i], all[p].scores[c].logprobs[i], 1e-5) << spec;
        }
      }
    }
  }
}

TEST_P(Scoring, GreedyMeansLikeliestThroughout) {
  Session session(model_);
  Prompt prompt{random_ids(model_, 40, 1), {}};
  State state(model_);
  auto logits = session.feed(state, prompt.context);
  std::vector<TokenId> greedy;
  for (int i = 0; i < 4; ++i) {
    greedy.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    logits = session.feed(state, std::span(&greedy.back(), 1));
  }
  std::vector<TokenId> other = greedy;
  other.back() = (other.back() + 1) % static_cast<TokenId>(model_.vocab_size());
  prompt.continuations = {greedy, other, {greedy[0]}, {other.back()}};
  Scorer scorer(model_, 2048);
  const Prompt* const pointer = &prompt;
  const auto outcome = scorer.score({&pointer, 1}, nullptr)[0];
  EXPECT_TRUE(outcome.scores[0].greedy);
  EXPECT_FALSE(outcome.scores[1].greedy);
  EXPECT_TRUE(outcome.scores[2].greedy);
  EXPECT_EQ(outcome.scores[3].greedy, other.back() == greedy[0]);
}

TEST_P(Scoring, DivergenceByHand) {
  const std::vector<Prompt> prompts = random_prompts(model_, 4, 9);
  const auto pointers = pointers_to(prompts);
  const Reduction reduction = Reduction::parse(model_, "truncate:flops=0.4");
  Scorer scorer(model_, 2048);
  Distributions dense;
  Distributions reduced;
  scorer.score(pointers, nullptr, &dense);
  const auto self = scorer.score(pointers, nullptr, nullptr, &dense);
  std::rotate(dense.begin(), dense.begin() + 1, dense.end());  // far from what is compared, in small models, too
  const auto outcomes = scorer.score(pointers, &reduction, &reduced, &dense);
  std::size_t at = 0;
  double largest = 0;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    for (std::size_t c = 0; c < prompts[p].continuations.size(); ++c) {
      const std::size_t tokens = prompts[p].continuations[c].size();
      double sum = 0;
      for (std::size_t i = 0; i < tokens; ++i, ++at) {
        double total = 0;
        for (std::size_t v = 0; v < dense[at].size(); ++v) {
          total += std::exp(static_cast<double>(dense[at][v]));
          sum += std::exp(static_cast<double>(dense[at][v])) * (static_cast<double>(dense[at][v]) - reduced[at][v]);
        }
        EXPECT_NEAR(total, 1, 1e-5);
      }
      EXPECT_NEAR(*outcomes[p].scores[c].kl, sum / static_cast<double>(tokens), 2e-6);
      EXPECT_EQ(*self[p].scores[c].kl, 0);
      largest = std::max(largest, *outcomes[p].scores[c].kl);
    }
  }
  EXPECT_GT(largest, 1e-6);
}

TEST_P(Scoring, CutOfNothingChangesNothing) {
  const std::vector<Prompt> prompts = random_prompts(model_, 6, 2);
  Scorer scorer(model_, 64);
  const auto dense = scorer.score(pointers_to(prompts), nullptr);
  for (const char* spec : {"utr:flops=0", "bypass:flops=0", "truncate:flops=0", "random:flops=0"}) {
    const Reduction reduction = Reduction::parse(model_, spec);
    const auto outcomes = scorer.score(pointers_to(prompts), &reduction);
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      EXPECT_EQ(outcomes[p].cut(), 0) << spec;
      for (std::size_t c = 0; c < prompts[p].continuations.size(); ++c) {
        EXPECT_EQ(outcomes[p].scores[c].logprobs, dense[p].scores[c].logprobs) << spec;
      }
    }
  }
}

TEST_P(Scoring, ProgressCountsEveryToken) {
  const std::vector<Prompt> prompts = random_prompts(model_, 7, 4);
  std::int64_t wanted = 0;
  for (const Prompt& prompt : prompts) {
    wanted += static_cast<std::int64_t>(prompt.context.size());
    for (const auto& c : prompt.continuations) wanted += static_cast<std::int64_t>(c.size()) - 1;
  }
  std::int64_t counted = 0;
  Scorer scorer(model_, 50, [&](std::int64_t tokens) { counted += tokens; });
  scorer.score(pointers_to(prompts), nullptr);
  EXPECT_EQ(counted, wanted);
}

INSTANTIATE_TEST_SUITE_P(Models, Scoring, testing::Values("mamba1-tiny", "mamba2-tiny"),
                         [](const auto& test) { return test.param == "mamba1-tiny" ? "mamba1" : "mamba2"; });

}  // namespace
}  // namespace molt::eval
