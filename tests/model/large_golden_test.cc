// The trained models against transformers' float32 outputs on real texts; in bf16, against their perplexity.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/safetensors.h"
#include "molt/session.h"
#include "tests/support/backends.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::large_model;
using testing_support::shared;

struct Case {
  std::string model;
  std::string backend;

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.model << " on " << c.backend; }
};

class LargeGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    MOLT_NEEDS(golden_path());
    MOLT_NEEDS_BACKEND(GetParam().backend);
    MOLT_NEEDS(large_model(GetParam().model));
    golden_ = read_safetensors(golden_path());
  }

  static std::string golden_path() { return shared("golden/" + GetParam().model + ".golden.safetensors"); }

  std::vector<TokenId> ids(const std::string& name) const {
    const Tensor& tensor = golden_.tensors.at(name);
    return {tensor.as<std::int64_t>(), tensor.as<std::int64_t>() + tensor.size()};
  }
  std::span<const float> floats(const std::string& name) const {
    const Tensor& tensor = golden_.tensors.at(name);
    return {tensor.as<float>(), static_cast<std::size_t>(tensor.size())};
  }

  SafetensorsFile golden_;
};

double log_probability(std::span<const float> logits, TokenId id) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return logits[static_cast<std::size_t>(id)] - top - std::log(sum);
}

TEST_P(LargeGolden, Float32) {
  const Model model =
      Model::load(large_model(GetParam().model), {.weights = WeightType::f32, .backend = GetParam().backend});
  Session session(model);
  for (const std::string k : {"0", "1", "2"}) {
    const std::vector<TokenId> text = ids("ids_" + k);
    const std::vector<TokenId> argmax = ids("argmax_" + k);
    const auto expected = floats("logprob_" + k);
    const auto last = floats("last_logits_" + k);
    const double largest = std::abs(
        *std::max_element(last.begin(), last.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    State state(model);
    const Sequence sequence{&state, text};
    session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t position, std::span<const float> logits) {
      const auto i = static_cast<std::size_t>(position);
      EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), argmax[i]) << position;
      if (i + 1 < text.size()) {
        EXPECT_NEAR(log_probability(logits, text[i + 1]), expected[i], 1e-3) << position;
        return;
      }
      for (std::size_t v = 0; v < logits.size(); ++v) ASSERT_NEAR(logits[v], last[v], 1e-4 * largest) << v;
    });
  }
}

TEST_P(LargeGolden, GreedyContinuations) {
  const Model model =
      Model::load(large_model(GetParam().model), {.weights = WeightType::f32, .backend = GetParam().backend});
  Session session(model);
  constexpr std::ptrdiff_t kPrompt = 96;
  for (const std::string k : {"0", "1", "2"}) {
    const std::vector<TokenId> expected = ids("greedy_" + k);
    std::vector<TokenId> text(expected.begin(), expected.begin() + kPrompt);
    State state(model);
    auto logits = session.feed(state, text);
    while (text.size() < expected.size()) {
      text.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      logits = session.feed(state, std::span(text).last(1));
    }
    EXPECT_EQ(text, expected);
  }
}

TEST_P(LargeGolden, Bfloat16KeepsThePerplexity) {
  const Model model =
      Model::load(large_model(GetParam().model), {.weights = WeightType::bf16, .backend = GetParam().backend});
  Session session(model);
  double expected = 0;
  double found = 0;
  std::size_t count = 0;
  for (const std::string k : {"0", "1", "2"}) {
    const std::vector<TokenId> text = ids("ids_" + k);
    for (const float value : floats("logprob_" + k)) expected += value;
    State state(model);
    const Sequence sequence{&state, text};
    session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t position, std::span<const float> logits) {
      const auto next = static_cast<std::size_t>(position) + 1;
      if (next == text.size()) return;
      found += log_probability(logits, text[next]);
      ++count;
    });
  }
  const auto tokens = static_cast<double>(count);
  EXPECT_NEAR(std::exp(-found / tokens) / std::exp(-expected / tokens), 1.0, 0.005);
}

INSTANTIATE_TEST_SUITE_P(Models, LargeGolden,
                         testing::Values(Case{"mamba2-49m", "cpu"}, Case{"mamba1-49m", "cpu"},
                                         Case{"mamba2-demo-11m", "cpu"}, Case{"mamba2-49m", "cuda"},
                                         Case{"mamba1-49m", "cuda"}, Case{"mamba2-demo-11m", "cuda"}),
                         [](const auto& test) {
                           std::string name =
                               test.param.model + (test.param.backend == "cpu" ? "" : "_" + test.param.backend);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace molt
