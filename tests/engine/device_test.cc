// Sessions and states on a device: what lies there comes back right, and recorded steps do what steps do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "molt/session.h"
#include "tests/support/backends.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing_support::fixture;

class OnADevice : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { MOLT_NEEDS_BACKEND("cuda"); }

  static Model load(const std::string& backend) {
    return Model::load(fixture("tiny/" + GetParam()), {.weights = WeightType::f32, .backend = backend});
  }

  static std::vector<TokenId> text(std::size_t length, int seed) {
    std::vector<TokenId> ids(length);
    for (std::size_t i = 0; i < length; ++i) ids[i] = static_cast<TokenId>((i * i * 7 + 13 * i + 5 * seed) % 60);
    return ids;
  }

  /// A token for each sequence.
  static std::vector<std::vector<TokenId>> step_of(std::size_t sequences, int step) {
    std::vector<std::vector<TokenId>> ids;
    for (std::size_t s = 0; s < sequences; ++s) ids.push_back(text(1, step * 31 + static_cast<int>(s)));
    return ids;
  }
};

void expect_near(std::span<const float> got, std::span<const float> want, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  float largest = 0;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(got[i], want[i], 1e-4 * largest) << what << ", number " << i;
}

TEST_P(OnADevice, StatesAreValues) {
  const Model there = load("cuda"), here = load("cpu");
  Session session(there), reference(here);
  State state(there), expected(here);
  session.feed(state, text(40, 1));
  reference.feed(expected, text(40, 1));
  expect_near(state.values(), expected.values(), "state");

  State copy = state;
  EXPECT_EQ(copy, state);
  session.feed(copy, text(1, 2));
  EXPECT_FALSE(copy == state);
  copy = state;
  EXPECT_EQ(copy, state);

  const testing_support::TempFolder folder;
  const std::string path = folder / "saved.state";
  state.save(path, text(40, 1));
  EXPECT_EQ(State::load(path, there).state, state);
  EXPECT_EQ(State::load(path, here).state.values(), state.values());  // from device to host
  EXPECT_EQ(state.converted(StateType::bf16).converted(StateType::f32).tokens(), 40);
}

std::vector<Sequence> batch_of(std::vector<State>& states, const std::vector<std::vector<TokenId>>& ids) {
  std::vector<Sequence> batch;
  for (std::size_t s = 0; s < states.size(); ++s) batch.push_back({&states[s], ids[s]});
  return batch;
}

TEST_P(OnADevice, RecordedStepsDoWhatStepsDo) {
  const Model there = load("cuda"), here = load("cpu");
  for (const std::size_t sequences : {1, 3, 17}) {
    Session session(there), reference(here);
    std::vector<State> states(sequences, State(there)), expected(sequences, State(here));
    for (int step = 0; step < 7; ++step) {
      const auto ids = step_of(sequences, step);
      expect_near(session.feed(batch_of(states, ids)), reference.feed(batch_of(expected, ids)), "logits");
      if (step == 4) {  // something larger in between, which needs more memory
        session.feed(states[0], text(300, 3));
        reference.feed(expected[0], text(300, 3));
      }
    }
    for (std::size_t s = 0; s < sequences; ++s) {
      EXPECT_EQ(states[s].tokens(), expected[s].tokens());
      expect_near(states[s].values(), expected[s].values(), "state");
    }
  }
}

TEST_P(OnADevice, RecordedStepsRoundAsStepsDo) {
  const Model model = load("cuda");
  for (const std::size_t sequences : {1, 3, 17}) {
    Session recording(model);
    std::vector<State> states(sequences, State(model, StateType::bf16)), expected = states;
    for (int step = 0; step < 5; ++step) {
      Session session(model);  // whose first step is no recorded one
      const auto ids = step_of(sequences, step);
      expect_near(recording.feed(batch_of(states, ids)), session.feed(batch_of(expected, ids)), "logits");
    }
    // Rounded by other keys, a state would be another soon.
    for (std::size_t s = 0; s < sequences; ++s) EXPECT_EQ(states[s], expected[s]);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OnADevice, testing::Values("mamba1-tiny", "mamba2-tiny", "mamba2-groups"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace molt
