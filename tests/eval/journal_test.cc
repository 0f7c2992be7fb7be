#include "eval/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "molt/error.h"
#include "tests/eval/problems.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using molt::testing_support::read_file;
using molt::testing_support::TempFolder;
using testing_support::tiny_model;

const Prompt kPrompt{{1, 2, 3}, {{4, 5}, {6}}};
const Outcome kOutcome{{{{-1.2345678F, -0.1F}, false, 0.25}, {{-3e-8F}, true, std::nullopt}}, 70, 100, 0.125};

void expect_equal(const Outcome* outcome, const Outcome& wanted) {
  ASSERT_NE(outcome, nullptr);
  EXPECT_EQ(outcome->flops, wanted.flops);
  EXPECT_EQ(outcome->dense_flops, wanted.dense_flops);
  EXPECT_EQ(outcome->seconds, wanted.seconds);
  ASSERT_EQ(outcome->scores.size(), wanted.scores.size());
  for (std::size_t s = 0; s < wanted.scores.size(); ++s) {
    EXPECT_EQ(outcome->scores[s].logprobs, wanted.scores[s].logprobs);  // to the bit
    EXPECT_EQ(outcome->scores[s].greedy, wanted.scores[s].greedy);
    EXPECT_EQ(outcome->scores[s].kl, wanted.scores[s].kl);
  }
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class JournalTest : public testing::Test {
 protected:
  TempFolder folder_;
  std::string path_ = folder_ / "run.jsonl";
  Model model_ = tiny_model();
};

TEST_F(JournalTest, KeepsOutcomesToTheBit) {
  {
    Journal journal(path_, model_, 2048);
    journal.add("dense", kPrompt, kOutcome);
    expect_equal(journal.find("dense", kPrompt, false), kOutcome);
  }
  const Journal journal(path_, model_, 2048);
  EXPECT_EQ(journal.found(), 1U);
  expect_equal(journal.find("dense", kPrompt, false), kOutcome);
  EXPECT_EQ(journal.find("dense", kPrompt, true), nullptr);  // one continuation has no divergence
  EXPECT_EQ(journal.find("other", kPrompt, false), nullptr);
  EXPECT_EQ(journal.find("dense", {{1, 2}, {{3, 4, 5}, {6}}}, false), nullptr);
  EXPECT_EQ(journal.find("dense", {{1, 2, 3}, {{4}, {5, 6}}}, false), nullptr);
}

TEST_F(JournalTest, LineThatAKillCutShortIsComputedAgain) {
  {
    Journal journal(path_, model_, 2048);
    journal.add("dense", kPrompt, kOutcome);
    journal.add("x", kPrompt, kOutcome);
  }
  const std::string whole = read_file(path_);
  const std::size_t header = whole.find('\n') + 1;
  for (std::size_t length = header; length < whole.size(); length += 13) {
    molt::testing_support::write_file(path_, whole.substr(0, length));
    {
      Journal journal(path_, model_, 2048);
      journal.add("y", kPrompt, kOutcome);
    }
    const Journal again(path_, model_, 2048);
    expect_equal(again.find("y", kPrompt, false), kOutcome);
    const bool has_first = length >= whole.find('\n', header);
    EXPECT_EQ(again.find("dense", kPrompt, false) != nullptr, has_first) << length;
  }
}

TEST_F(JournalTest, RefusesWhatIsNotItsOwn) {
  { const Journal journal(path_, model_, 2048); }
  EXPECT_THAT(error_of([&] { Journal(path_, model_, 1024); }), testing::HasSubstr("\"window\":2048"));
  EXPECT_THAT(error_of([&] { Journal(path_, tiny_model("mamba1-tiny"), 2048); }), testing::HasSubstr("name another"));
  const std::string text = folder_.write("notes.txt", "keep me");
  EXPECT_THAT(error_of([&] { Journal(text, model_, 2048); }), testing::HasSubstr("notes.txt: is no journal"));
  EXPECT_EQ(read_file(text), "keep me");
  EXPECT_THAT(error_of([&] { Journal(folder_ / "no/such/folder", model_, 2048); }), testing::HasSubstr("no/such"));
}

}  // namespace
}  // namespace molt::eval
