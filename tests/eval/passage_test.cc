// The passage that is looked at, and how it is read.
#include "eval/passage.h"

#include <gtest/gtest.h>

#include "tests/eval/problems.h"

namespace molt::eval {
namespace {

using testing_support::random_ids;
using testing_support::tiny_model;

TaskItems task_of_lengths(const Model& model, const std::vector<std::size_t>& lengths) {
  TaskItems task{"suffix_nll", nullptr, {}};
  for (const std::size_t length : lengths) {
    task.items.push_back({.requests = {{random_ids(model, length, task.items.size()), {1}}}});
  }
  return task;
}

TEST(ChoosePassage, TheLongestThatFits) {
  const Model model = tiny_model();
  const auto first = task_of_lengths(model, {5, 30, 12});
  const auto second = task_of_lengths(model, {20, 12, 40});
  const auto context = [](const TaskItems& task, std::size_t item) { return task.items[item].requests[0].context; };
  EXPECT_EQ(choose_passage({first, second}, 25), context(second, 0));
  EXPECT_EQ(choose_passage({first, second}, 12), context(first, 2));  // the first of equals
  EXPECT_EQ(choose_passage({first, second}, 1000), context(second, 2));
  EXPECT_EQ(choose_passage({first, second}, 4), context(first, 0));  // none fits: the shortest
  EXPECT_TRUE(choose_passage({}, 4).empty());
}

TEST(ReadPassage, RecordsWhatASessionDoes) {
  const Model model = tiny_model();
  const std::vector<TokenId> passage = random_ids(model, 90, 7);
  const std::vector<Setting> settings{{"truncate:flops=0.5", Reduction::parse(model, "truncate:flops=0.5")},
                                      {"utr:flops=0.2", Reduction::parse(model, "utr:flops=0.2")}};
  const std::vector<PassageReading> readings = read_passage(model, passage, settings, 64);
  ASSERT_EQ(readings.size(), 3U);
  EXPECT_EQ(readings[0].setting, kDense);
  EXPECT_EQ(readings[0].record.tokens, 0);
  EXPECT_GT(readings[0].scratch_bytes, 0);
  for (std::size_t s = 0; s < settings.size(); ++s) {
    Session session(model, {.window = 64, .progress = {}});
    State state(model);
    ReductionRecord record;
    session.feed(state, passage, {.reduction = &settings[s].reduction, .record = &record});
    const PassageReading& reading = readings[s + 1];
    EXPECT_EQ(reading.setting, settings[s].name);
    EXPECT_EQ(reading.record.full, record.full);
    EXPECT_EQ(reading.record.fates.size(), record.fates.size());
    EXPECT_EQ(reading.scratch_bytes, session.scratch_bytes());
    EXPECT_FALSE(record.fates.empty());
  }
}

}  // namespace
}  // namespace molt::eval
