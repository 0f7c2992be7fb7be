// Tiny random checkpoints of every kind against logits of Hugging Face transformers in float32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "io/safetensors.h"
#include "molt/session.h"
#include "tests/support/backends.h"
#include "tests/support/observe.h"
#include "tests/support/paths.h"
#include "tests/support/sliced_backend.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::observe;

struct Case {
  std::string model;   // folder to load
  std::string golden;  // folder with golden.safetensors
  std::string backend;

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.model << " on " << c.backend; }
};

class TinyGolden : public testing::TestWithParam<Case> {
 protected:
  TinyGolden() : golden_(read_safetensors(fixture("tiny/" + GetParam().golden + "/golden.safetensors"))) {
    const Tensor& ids = golden_.tensors.at("input_ids");
    const std::int64_t length = ids.shape()[1];
    for (std::int64_t s = 0; s < ids.shape()[0]; ++s) {
      rows_.emplace_back(ids.as<std::int64_t>() + s * length, ids.as<std::int64_t>() + (s + 1) * length);
    }
  }

  void SetUp() override {
    MOLT_NEEDS_BACKEND(GetParam().backend);
    loaded_ =
        Model::load(fixture("tiny/" + GetParam().model), {.weights = WeightType::f32, .backend = GetParam().backend});
  }

  const Model& model() const { return *loaded_; }

  SafetensorsFile golden_;
  std::optional<Model> loaded_;
  std::vector<std::vector<TokenId>> rows_;
};

double largest(std::span<const float> values) {
  double largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

TEST_P(TinyGolden, LogitsOfARaggedBatch) {
  const Tensor& expected = golden_.tensors.at("logits");
  const std::int64_t vocab = expected.shape()[2];
  ASSERT_EQ(vocab, model().vocab_size());
  const double tolerance = 1e-4 * largest({expected.as<float>(), static_cast<std::size_t>(expected.size())});
  Session session(model(), {.window = 23});
  std::vector<State> states(rows_.size(), State(model()));
  std::vector<Sequence> batch;
  for (std::size_t s = 0; s < rows_.size(); ++s) batch.push_back({&states[s], rows_[s]});
  std::size_t checked = 0;
  session.feed_all(batch, [&](std::size_t s, std::int64_t position, std::span<const float> logits) {
    const std::int64_t row = static_cast<std::int64_t>(s) * expected.shape()[1] + position;
    for (std::int64_t v = 0; v < vocab; ++v) {
      ASSERT_NEAR(logits[static_cast<std::size_t>(v)], expected.as<float>()[row * vocab + v], tolerance)
          << "sequence " << s << " position " << position << " token " << v;
    }
    ++checked;
  });
  EXPECT_EQ(static_cast<std::int64_t>(checked), expected.size() / vocab);
}

TEST_P(TinyGolden, GreedyContinuationOfTheFirstHalf) {
  const Tensor& generated = golden_.tensors.at("generated");
  const auto* ids = generated.as<std::int64_t>();
  const std::size_t prompt = rows_[0].size() / 2;
  std::vector<TokenId> text(rows_[0].begin(), rows_[0].begin() + static_cast<std::ptrdiff_t>(prompt));
  Session session(model());
  State state(model());
  auto logits = session.feed(state, text);
  while (static_cast<std::int64_t>(text.size()) < generated.size()) {
    const auto best = std::max_element(logits.begin(), logits.end());
    text.push_back(static_cast<TokenId>(best - logits.begin()));
    logits = session.feed(state, std::span(text).last(1));
  }
  EXPECT_EQ(text, std::vector<TokenId>(ids, ids + generated.size()));
}

TEST_P(TinyGolden, ResidualStreamAfterTheSecondBlock) {
  const Tensor& expected = golden_.tensors.at("hidden_1");
  const std::int64_t d_model = expected.shape()[2];
  const double tolerance = 1e-4 * largest({expected.as<float>(), static_cast<std::size_t>(expected.size())});
  for (std::size_t s = 0; s < rows_.size(); ++s) {
    const auto length = static_cast<std::int64_t>(rows_[s].size());
    const testing_support::Observer compare = [&](std::int64_t layer, Matrix<const float> residual,
                                                  Matrix<const float> h) {
      // transformers' hidden_states[1]: it counts from the first block's output or, of transformers, from the
      // embedding, and a layer of those is two blocks.
      if (layer != 1) return;
      for (std::int64_t i = 0; i < length * d_model; ++i) {
        ASSERT_NEAR(residual.data[i] + h.data[i],
                    expected.as<float>()[static_cast<std::int64_t>(s) * length * d_model + i], tolerance);
      }
    };
    observe(model(), rows_[s], compare);
  }
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const std::string backend : {"reference", "cpu", "cpu-in-slices", "cuda"}) {
    for (const std::string name : {"mamba1-tiny", "mamba1-bias", "falcon-mamba-tiny", "mamba2-tiny", "mamba2-groups",
                                   "llama-gqa", "llama-bias", "llama-llama3", "llama-linear", "opt-tiny"}) {
      const bool attention = name.starts_with("llama") || name.starts_with("opt");
      if (backend == "cuda" && attention) continue;  // attention runs on the host alone so far
      cases.push_back({name, name, backend});
    }
    cases.push_back({"mamba1-tiny-mamba_ssm", "mamba1-tiny", backend});
    cases.push_back({"mamba2-tiny-mamba_ssm", "mamba2-tiny", backend});
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.model + "_" + info.param.backend;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, TinyGolden, testing::ValuesIn(cases()), case_name);

}  // namespace
}  // namespace molt
