// A batch of ragged sequences that are reduced together: each as if it were alone, on every backend. What is asked of
// the sites of a block is found for all of them at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "molt/session.h"
#include "tests/support/backends.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;

std::vector<TokenId> text(std::int64_t length, int seed) {
  std::vector<TokenId> ids(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<TokenId>((i * i * 7 + 13 * i + 5 * static_cast<std::size_t>(seed)) % 60);
  }
  return ids;
}

/// What became of a sequence.
struct Outcome {
  std::vector<float> logits, state;
  std::vector<TokenFate> fates;
};

/// Of sequences of these lengths, `at_once` of them in a batch; the third is reduced by `other`, if there is one.
std::vector<Outcome> run(const Model& model, const std::vector<std::int64_t>& lengths, std::size_t at_once,
                         const std::string& spec, const std::string& other) {
  const Reduction reduction = Reduction::parse(model, spec);
  const Reduction second = Reduction::parse(model, other.empty() ? spec : other);
  Session session(model, {.window = 1024, .progress = {}});
  std::vector<Outcome> outcomes;
  for (std::size_t first = 0; first < lengths.size(); first += at_once) {
    const std::size_t count = std::min(at_once, lengths.size() - first);
    std::vector<State> states(count, State(model));
    std::vector<std::vector<TokenId>> texts;
    std::vector<ReductionRecord> records(count);
    for (std::size_t i = 0; i < count; ++i) {
      texts.push_back(text(lengths[first + i], static_cast<int>(first + i)));
      records[i].tokens = lengths[first + i];
    }
    std::vector<Sequence> batch;
    for (std::size_t i = 0; i < count; ++i) {
      const Reduction* const own = first + i == 2 ? &second : &reduction;
      batch.push_back({&states[i], texts[i], {.reduction = own, .record = &records[i]}});
    }
    const std::span<const float> logits = session.feed(batch);
    const std::size_t vocab = logits.size() / count;
    for (std::size_t i = 0; i < count; ++i) {
      const auto own = logits.subspan(i * vocab, vocab);
      outcomes.push_back({{own.begin(), own.end()}, states[i].values(), records[i].fates});
    }
  }
  return outcomes;
}

void expect_near(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  float largest = 0;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], 1e-4 * largest) << what << ", number " << i;
  }
}

class ReducedBatches : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(ReducedBatches, AreTheirSequencesOneByOne) {
  const auto& [fixture_name, backend] = GetParam();
  MOLT_NEEDS_BACKEND(backend);
  const LoadOptions here{.weights = WeightType::f32}, there{.weights = WeightType::f32, .backend = backend};
  const Model alone = Model::load(fixture("tiny/" + fixture_name), here);
  const Model together = Model::load(fixture("tiny/" + fixture_name), there);
  const std::vector<std::int64_t> lengths{90, 3, 41, 90, 1, 64, 90};
  for (const auto& [spec, other] : std::vector<std::pair<std::string, std::string>>{
           {"utr:flops=0.3,sites=0+1", ""},
           {"utr:flops=0.3,sites=0+1", "utr:flops=0.2,sites=0,feature=r+h,direction=later"},
           {"utr:flops=0.3,sites=0,feature=h", "bypass:flops=0.3,from=1,to=2"},
           {"pumer:flops=0.2,sites=0+1", "utr:flops=0.3,sites=0+1"},
           {"bypass:flops=0.3,from=1,to=2", "contrib:flops=0.2,sites=0+1"},
           {"evit:flops=0.3,sites=0+1,fused=on", "none"},
       }) {
    const auto want = run(alone, lengths, 1, spec, other), got = run(together, lengths, lengths.size(), spec, other);
    ASSERT_EQ(got.size(), want.size());
    std::size_t left = 0;
    for (std::size_t s = 0; s < want.size(); ++s) {
      const std::string what = spec + " beside " + other + ", sequence " + std::to_string(s);
      ASSERT_EQ(got[s].fates.size(), want[s].fates.size()) << what;
      for (std::size_t i = 0; i < want[s].fates.size(); ++i) {
        const TokenFate &a = got[s].fates[i], &b = want[s].fates[i];
        ASSERT_EQ(std::tie(a.position, a.site, a.kind, a.hidden_into, a.residual_into, a.return_at),
                  std::tie(b.position, b.site, b.kind, b.hidden_into, b.residual_into, b.return_at))
            << what;
      }
      left += want[s].fates.size();
      expect_near(got[s].logits, want[s].logits, what + ", logits");
      expect_near(got[s].state, want[s].state, what + ", state");
    }
    EXPECT_GT(left, 50U) << spec;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ReducedBatches,
                         testing::Combine(testing::Values("mamba1-tiny", "mamba2-tiny"),
                                          testing::Values("cpu", "cuda")),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param) + "_" + std::get<1>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace molt
