// What must hold for every model: windows, batches, threads and saved states change nothing but rounding.
#include "molt/session.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/random.h"
#include "model/model.h"
#include "molt/threads.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::TempFolder;

const std::vector<std::string> kModels = {"mamba1-tiny",   "mamba1-bias", "falcon-mamba-tiny", "mamba2-tiny",
                                          "mamba2-groups", "llama-gqa",   "llama-bias"};

struct Case {
  std::string model;
  WeightType weights;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.model << (c.weights == WeightType::f32 ? " f32" : " bf16");
}

class SessionProperty : public testing::TestWithParam<Case> {
 protected:
  Model model_ = Model::load(fixture("tiny/" + GetParam().model), {.weights = GetParam().weights});

  std::vector<TokenId> random_ids(std::size_t length, std::uint64_t seed) const {
    Random random(seed);
    std::vector<TokenId> ids(length);
    for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model_.vocab_size()));
    return ids;
  }

  struct Outcome {
    std::vector<float> logits;
    State state;
  };

  Outcome run(std::span<const TokenId> ids, std::int64_t window) const {
    Session session(model_, {.window = window, .progress = {}});
    State state(model_);
    const auto logits = session.feed(state, ids);
    return {{logits.begin(), logits.end()}, state};
  }

  /// Largest difference, as a share of the largest expected value.
  static double difference(std::span<const float> a, std::span<const float> b) {
    double largest = 1e-30;
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(a[i])));
      worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return worst / largest;
  }

  static std::vector<float> floats(const State& state) { return state.values(); }

  /// Whether there are states that --state holds in bfloat16: keys and values are float32 always.
  bool rounds_states() const { return model_.core()->state_layout().bytes > 0; }

  // Rounding of activations to bf16 may fall to the other side when float32 sums differ in their last bit.
  double tolerance() const { return GetParam().weights == WeightType::f32 ? 1e-4 : 2e-2; }
};

TEST_P(SessionProperty, AnySplitIntoWindowsGivesTheSameStateAndLogits) {
  for (const std::size_t length : {1U, 2U, 3U, 7U, 64U, 150U}) {
    const std::vector<TokenId> ids = random_ids(length, length);
    const Outcome whole = run(ids, 1 << 20);
    for (const std::int64_t window : {1, 2, 5, 63, 64, 65}) {
      const Outcome split = run(ids, window);
      EXPECT_LE(difference(whole.logits, split.logits), tolerance()) << length << " tokens in windows of " << window;
      EXPECT_LE(difference(floats(whole.state), floats(split.state)), tolerance());
      EXPECT_EQ(split.state.tokens(), static_cast<std::int64_t>(length));
    }
  }
}

TEST_P(SessionProperty, BatchCompositionChangesNothing) {
  const bool held = rc::check("a sequence's results do not depend on the others", [this](std::uint64_t seed) {
    Random random(seed);
    const std::size_t count = 1 + random.next() % 5;
    std::vector<std::vector<TokenId>> texts;
    for (std::size_t s = 0; s < count; ++s) texts.push_back(random_ids(1 + random.next() % 90, random.next()));
    Session session(model_, {.window = static_cast<std::int64_t>(1 + random.next() % 100), .progress = {}});
    std::vector<State> states(count, State(model_));
    std::vector<Sequence> batch;
    for (std::size_t s = 0; s < count; ++s) batch.push_back({&states[s], texts[s]});
    const auto together_view = session.feed(batch);
    const std::vector<float> together(together_view.begin(), together_view.end());
    const auto vocab = static_cast<std::size_t>(model_.vocab_size());
    for (std::size_t s = 0; s < count; ++s) {
      State alone(model_);
      const auto logits = session.feed(alone, texts[s]);
      const double tolerance = GetParam().weights == WeightType::f32 ? 1e-5 : 2e-2;
      RC_ASSERT(difference(logits, std::span(together).subspan(s * vocab, vocab)) <= tolerance);
      RC_ASSERT(difference(floats(alone), floats(states[s])) <= tolerance);
    }
  });
  EXPECT_TRUE(held);
}

TEST_P(SessionProperty, ThreadCountsAgreeToTheBit) {
  const int before = num_threads();
  const std::vector<TokenId> ids = random_ids(200, 3);
  set_num_threads(1);
  const Outcome one = run(ids, 2048);
  for (const int threads : {2, 3, 5}) {
    set_num_threads(threads);
    const Outcome many = run(ids, 2048);
    EXPECT_EQ(one.logits, many.logits) << threads << " threads";
    EXPECT_TRUE(one.state == many.state);
  }
  set_num_threads(before);
}

TEST_P(SessionProperty, DecodingIsPrefillOfOneToken) {
  const std::vector<TokenId> ids = random_ids(40, 4);
  const Outcome whole = run(ids, 2048);
  Session session(model_);
  State state(model_);
  std::vector<float> last;
  for (const TokenId id : ids) {
    const auto logits = session.feed(state, {&id, 1});
    last.assign(logits.begin(), logits.end());
  }
  EXPECT_LE(difference(whole.logits, last), tolerance());
}

TEST_P(SessionProperty, SavedStatesReloadExactly) {
  const std::vector<TokenId> ids = random_ids(70, 5);
  const Outcome outcome = run(ids, 2048);
  const TempFolder folder;
  const std::string path = folder / "text.state";
  std::vector<TokenId> text = ids;
  text.push_back(1);  // generated, but not fed
  outcome.state.save(path, text);
  const State::Saved saved = State::load(path, model_);
  EXPECT_TRUE(saved.state == outcome.state);
  EXPECT_EQ(saved.ids, text);
}

TEST_P(SessionProperty, CopiedStatesGoTheirOwnWays) {
  Session session(model_);
  State state(model_);
  session.feed(state, random_ids(20, 6));
  State copy = state;
  EXPECT_TRUE(copy == state);
  session.feed(copy, random_ids(1, 7));
  EXPECT_FALSE(copy == state);
}

TEST_P(SessionProperty, FeedAllEndsInTheLogitsOfFeed) {
  const std::vector<TokenId> ids = random_ids(130, 8);
  Session session(model_, {.window = 50, .progress = {}});
  State state(model_);
  const Sequence sequence{&state, ids};
  std::vector<float> last;
  std::int64_t expected_position = 0;
  session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t position, std::span<const float> logits) {
    EXPECT_EQ(position, expected_position++);
    last.assign(logits.begin(), logits.end());
  });
  EXPECT_EQ(expected_position, 130);
  EXPECT_LE(difference(run(ids, 50).logits, last), tolerance());
}

TEST_P(SessionProperty, ScratchMemoryIsTheWindows) {
  Session session(model_, {.window = 64, .progress = {}});
  State state(model_);
  session.feed(state, random_ids(200, 9));
  const std::int64_t after_short = session.scratch_bytes();
  session.feed(state, random_ids(3000, 10));
  EXPECT_EQ(session.scratch_bytes(), after_short);
}

TEST_P(SessionProperty, RefusesBadTokensBeforeAnythingChanges) {
  Session session(model_);
  State state(model_);
  const State before = state;
  const std::vector<TokenId> too_large{1, static_cast<TokenId>(model_.vocab_size())};
  const std::vector<TokenId> negative{-1};
  EXPECT_THROW(session.feed(state, too_large), Error);
  EXPECT_THROW(session.feed(state, negative), Error);
  EXPECT_THROW(session.feed(state, {}), Error);
  EXPECT_TRUE(state == before);
}

/// The logits behind `ids`, the last `decoded` of them fed one by one.
std::vector<float> read_then_decode(const Model& model, State& state, std::span<const TokenId> ids,
                                    std::size_t decoded) {
  Session session(model);
  session.feed(state, ids.first(ids.size() - decoded));
  std::vector<float> last;
  for (std::size_t i = ids.size() - decoded; i < ids.size(); ++i) {
    const auto logits = session.feed(state, ids.subspan(i, 1));
    last.assign(logits.begin(), logits.end());
  }
  return last;
}

TEST_P(SessionProperty, StatesInBfloat16AreNearThoseInFloat32) {
  const std::vector<TokenId> ids = random_ids(150, 11);
  State wide(model_), rounded(model_, StateType::bf16);
  EXPECT_EQ(rounded.bytes() < wide.bytes(), rounds_states());
  const std::vector<float> expected = read_then_decode(model_, wide, ids, 60);
  const std::vector<float> logits = read_then_decode(model_, rounded, ids, 60);
  EXPECT_EQ(logits != expected, rounds_states());
  EXPECT_LE(difference(expected, logits), 3e-2);
  EXPECT_LE(difference(floats(wide), floats(rounded)), 3e-2);
}

TEST_P(SessionProperty, StatesInBfloat16AreTheReferencesOnes) {
  const Model reference =
      Model::load(fixture("tiny/" + GetParam().model), {.weights = GetParam().weights, .backend = "reference"});
  const std::vector<TokenId> ids = random_ids(60, 12);
  State expected(reference, StateType::bf16), state(model_, StateType::bf16);
  const std::vector<float> wanted = read_then_decode(reference, expected, ids, 30);
  // Float32 sums that differ in their last bit are, now and then, rounded to neighbours.
  EXPECT_LE(difference(wanted, read_then_decode(model_, state, ids, 30)), 2e-2);
  EXPECT_LE(difference(floats(expected), floats(state)), 2e-2);
}

TEST_P(SessionProperty, StatesInBfloat16AreTheSameBitsInAnyBatchOnAnyThreads) {
  const int before = num_threads();
  const std::vector<TokenId> ids = random_ids(90, 13);
  State alone(model_, StateType::bf16);
  const std::vector<float> logits = read_then_decode(model_, alone, ids, 10);
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    Session session(model_);
    std::vector<State> states(3, State(model_, StateType::bf16));
    const auto others = random_ids(40, 14);
    session.feed(states[0], others);  // has seen other tokens, and more of them, than the one to compare
    const Sequence prompts[] = {{&states[0], others}, {&states[1], std::span(ids).first(80)}, {&states[2], others}};
    session.feed(prompts);
    std::vector<float> last;
    for (std::size_t i = 80; i < ids.size(); ++i) {
      const auto next = std::span(ids).subspan(i, 1);
      const Sequence steps[] = {{&states[0], next}, {&states[1], next}, {&states[2], next}};
      const auto all = session.feed(steps);
      const auto vocab = static_cast<std::size_t>(model_.vocab_size());
      last.assign(all.begin() + static_cast<std::ptrdiff_t>(vocab),
                  all.begin() + static_cast<std::ptrdiff_t>(2 * vocab));
    }
    EXPECT_EQ(last, logits);
    EXPECT_TRUE(states[1] == alone) << threads << " threads";
  }
  set_num_threads(before);
}

TEST_P(SessionProperty, CopiesOfRoundedStatesGoOnAlike) {
  Session session(model_);
  State state(model_, StateType::bf16);
  session.feed(state, random_ids(20, 15));
  State copy = state;
  const std::vector<TokenId> next = random_ids(1, 16);
  session.feed(state, next);
  EXPECT_FALSE(copy == state);
  session.feed(copy, next);
  EXPECT_TRUE(copy == state);
}

TEST_P(SessionProperty, StatesConvertWhereTheyAreLoaded) {
  const Model halved =
      Model::load(fixture("tiny/" + GetParam().model), {.weights = GetParam().weights, .states = StateType::bf16});
  const std::vector<TokenId> ids = random_ids(70, 17);
  State wide(model_);
  State rounded(halved);
  EXPECT_EQ(rounded.type(), StateType::bf16);
  Session(model_).feed(wide, ids);
  Session(halved).feed(rounded, ids);
  const TempFolder folder;
  wide.save(folder / "wide", ids);
  rounded.save(folder / "rounded", ids);
  EXPECT_EQ(std::filesystem::file_size(folder / "rounded") < std::filesystem::file_size(folder / "wide"),
            rounds_states());

  EXPECT_TRUE(State::load(folder / "wide", model_).state == wide);
  EXPECT_TRUE(State::load(folder / "rounded", halved).state == rounded);
  const State widened = State::load(folder / "rounded", model_).state;
  EXPECT_EQ(widened.type(), StateType::f32);
  EXPECT_EQ(widened.tokens(), 70);
  EXPECT_EQ(widened.values(), rounded.values());
  EXPECT_TRUE(widened.converted(StateType::bf16) == rounded);
  const State narrowed = State::load(folder / "wide", halved).state;
  EXPECT_TRUE(narrowed == wide.converted(StateType::bf16));
  EXPECT_LE(difference(floats(wide), floats(narrowed)), 1.0 / 256);
  EXPECT_EQ(floats(wide) != floats(narrowed), rounds_states());
}

TEST(Session, RefusesStatesOfSeveralTypesInABatch) {
  const Model model = Model::load(fixture("tiny/mamba2-tiny"));
  const std::vector<TokenId> ids{1, 2};
  State wide(model), rounded(model, StateType::bf16);
  const State before = rounded;
  const Sequence mixed[] = {{&wide, ids}, {&rounded, ids}};
  EXPECT_THROW(Session(model).feed(mixed), Error);
  EXPECT_TRUE(rounded == before);
}

TEST(Session, ProgressCanCancel) {
  const Model model = Model::load(fixture("tiny/mamba2-tiny"));
  Session session(model, {.window = 10, .progress = [](std::int64_t done, std::int64_t total) {
                            EXPECT_EQ(total, 35);
                            if (done >= 20) throw Error("cancelled");
                          }});
  State state(model);
  const std::vector<TokenId> ids(35, 1);
  EXPECT_THROW(session.feed(state, ids), Error);
  EXPECT_EQ(state.tokens(), 20);
}

TEST(Session, RefusesForeignAndSharedStates) {
  const Model model = Model::load(fixture("tiny/mamba2-tiny"));
  const Model other = Model::load(fixture("tiny/mamba1-tiny"));
  const std::vector<TokenId> ids{1, 2};
  Session session(model);
  State foreign(other);
  EXPECT_THROW(session.feed(foreign, ids), Error);
  State state(model);
  const State before = state;
  const Sequence twice[] = {{&state, ids}, {&state, ids}};
  EXPECT_THROW(session.feed(twice), Error);
  EXPECT_TRUE(state == before);
}

TEST(Session, RefusesAWindowOfNothing) {
  const Model model = Model::load(fixture("tiny/mamba2-tiny"));
  EXPECT_THROW(Session(model, {.window = 0, .progress = {}}), Error);
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const std::string& model : kModels) {
    cases.push_back({model, WeightType::f32});
    cases.push_back({model, WeightType::bf16});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, SessionProperty, testing::ValuesIn(cases()), [](const auto& c) {
  std::string name = c.param.model + (c.param.weights == WeightType::f32 ? "_f32" : "_bf16");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace molt
