// States of models with attention, whose keys and values grow: branches that share them, files, and the longest text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "model/kv_blocks.h"
#include "model/model.h"
#include "molt/generate.h"
#include "molt/reduction.h"
#include "molt/session.h"
#include "molt/state.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::fixture;
using testing_support::TempFolder;

template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<TokenId> ids_from(TokenId first, std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = (first + static_cast<TokenId>(i * i)) % 64;
  return ids;
}

class AttentionState : public testing::Test {
 protected:
  std::vector<float> feed(State& state, std::span<const TokenId> ids, std::int64_t window = 2048) const {
    Session session(model_, {.window = window, .progress = {}});
    const auto logits = session.feed(state, ids);
    return {logits.begin(), logits.end()};
  }

  Model model_ = Model::load(fixture("tiny/llama-gqa"));
  Model short_model_ = Model::load(fixture("tiny/llama-linear"));  // texts of up to 128 tokens
};

TEST_F(AttentionState, IsTheSameBitsInWindowsOfAnySize) {
  const std::vector<TokenId> ids = ids_from(3, 700);
  State whole(model_);
  const std::vector<float> logits = feed(whole, ids);
  for (const std::int64_t window : {1, 63, 64, 512}) {
    State state(model_);
    EXPECT_EQ(feed(state, ids, window), logits) << window;
    EXPECT_TRUE(state == whole) << window;
  }
}

// At every place within a block: what the copies write, they write for themselves.
TEST_F(AttentionState, BranchesGoTheirOwnWays) {
  for (const std::size_t length : {1U, 63U, 64U, 65U, 128U, 200U}) {
    const std::vector<TokenId> ids = ids_from(1, length);
    const std::vector<TokenId> left = ids_from(7, 70);
    const std::vector<TokenId> right = ids_from(11, 70);
    State trunk(model_);
    feed(trunk, ids);
    State branch = trunk;
    State assigned(model_);
    feed(assigned, right);
    assigned = trunk;
    EXPECT_TRUE(branch == trunk && assigned == trunk);
    const std::vector<float> of_left = feed(branch, left);
    const std::vector<float> of_right = feed(trunk, right);
    EXPECT_FALSE(branch == trunk);

    std::vector<TokenId> text = ids;
    text.insert(text.end(), left.begin(), left.end());
    State alone(model_);
    EXPECT_EQ(feed(alone, text), of_left) << length;
    EXPECT_TRUE(alone == branch) << length;
    EXPECT_EQ(feed(assigned, right), of_right) << length;
    EXPECT_TRUE(assigned == trunk) << length;
  }
}

TEST_F(AttentionState, CopiesShareFullBlocks) {
  State state(model_);
  feed(state, ids_from(1, 130));
  const State copy = state;
  ASSERT_EQ(copy.kv_blocks().size(), 3U);
  EXPECT_EQ(copy.kv_blocks()[0], state.kv_blocks()[0]);
  EXPECT_EQ(copy.kv_blocks()[1], state.kv_blocks()[1]);
  EXPECT_NE(copy.kv_blocks()[2], state.kv_blocks()[2]);
}

TEST_F(AttentionState, IsAValue) {
  State state(model_);
  EXPECT_TRUE(state.values().empty());
  feed(state, ids_from(1, 70));
  EXPECT_EQ(state.values().size(), 70U * 2 * 2 * 2 * 8);  // layers, keys and values, heads, channels
  EXPECT_EQ(state.converted(StateType::bf16).values(), state.values());
  State moved = std::move(state);
  EXPECT_EQ(moved.tokens(), 70);
  state = moved;
  EXPECT_TRUE(state == moved);
}

TEST_F(AttentionState, FilesHoldTheKeysAndValuesOfEachToken) {
  const TempFolder folder;
  const std::string path = folder / "text.state";
  const std::vector<TokenId> ids = ids_from(5, 100);
  State state(model_);
  feed(state, ids);
  state.save(path, ids);
  State::Saved saved = State::load(path, model_);
  EXPECT_TRUE(saved.state == state);
  const std::vector<TokenId> next = ids_from(2, 40);
  EXPECT_EQ(feed(saved.state, next), feed(state, next));

  const SafetensorsFile file = read_safetensors(path);
  EXPECT_EQ(file.tensors.at("layers.0.keys").shape(), (Shape{100, 2, 8}));
  std::map<std::string, Tensor> tensors = file.tensors;
  tensors["layers.2.values"] = Tensor::zeros(DType::f32, {99, 2, 8});
  write_safetensors(folder / "short.state", {tensors.begin(), tensors.end()}, file.metadata);
  EXPECT_THAT(error_of([&] { State::load(folder / "short.state", model_); }),
              HasSubstr("layers.2.values is f32 [99, 2, 8]"));
  tensors.erase("layers.2.values");
  write_safetensors(folder / "none.state", {tensors.begin(), tensors.end()}, file.metadata);
  EXPECT_THAT(error_of([&] { State::load(folder / "none.state", model_); }), HasSubstr("layers.2.values is missing"));
}

TEST_F(AttentionState, EndsWithTheLongestText) {
  State state(short_model_);
  Session session(short_model_);
  session.feed(state, ids_from(1, 100));
  const State before = state;
  EXPECT_THAT(error_of([&] { session.feed(state, ids_from(1, 29)); }),
              HasSubstr("would be 129 tokens long; " + short_model_.source() + " was made for texts of up to 128"));
  EXPECT_TRUE(state == before);
  session.feed(state, ids_from(1, 28));
  EXPECT_EQ(state.tokens(), 128);
}

TEST(AttentionGeneration, EndsWithTheLongestText) {
  const Model model = Model::load(fixture("gguf/llama.gguf"));
  ASSERT_EQ(model.max_tokens(), 256);
  Session session(model);
  State state(model);
  const std::vector<TokenId> prompt = ids_from(1, 250);
  const Generation result = generate(session, state, prompt, {.max_tokens = 50, .stop_at_eos = false});
  EXPECT_EQ(name_of(result.reason), "context_full");
  EXPECT_EQ(result.ids.size(), 7U);  // behind the 250th token and those that were fed up to the 256th
  EXPECT_EQ(state.tokens(), 256);
}

TEST_F(AttentionState, ReductionIsRefused) {
  EXPECT_THAT(error_of([&] { Reduction::parse(model_, "utr:flops=0.2"); }),
              HasSubstr("block 0 of this model is attention"));
}

TEST(ManyEnds, EndATextEach) {
  const Model model = Model::load(fixture("tiny/llama-llama3"));
  EXPECT_EQ(model.eos(), 5);
  for (TokenId id = 0; id < 64; ++id) EXPECT_EQ(model.ends_text(id), id == 5 || id == 9) << id;
}

}  // namespace
}  // namespace molt
