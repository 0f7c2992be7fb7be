// What the tasks ask, on texts small enough to count by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/random.h"
#include "eval/evaluate.h"
#include "molt/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::TempFolder;

class Tasks : public testing::Test {
 protected:
  TempFolder folder_;
  Model model_ = Model::load(demo_model());

  TaskInput input() const {
    return {.model = model_, .files = {}, .limit = 1000, .contexts = {}, .excerpts = 1, .seed = 0, .add_bos = false};
  }

  std::vector<Item> items(const std::string& task, const TaskInput& input) const {
    return read_tasks({task}, {folder_.path()}, input)[0].items;
  }
  std::vector<Item> items(const std::string& task) const { return items(task, input()); }

  std::string error_of(const std::vector<std::string>& names, const std::vector<std::string>& data) const {
    try {
      read_tasks(names, data, input());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::vector<TokenId> encode(const std::string& text) const { return model_.tokenizer().encode(text); }

  /// A document of exactly `words` tokens, drawn at random: no passage of it comes twice.
  std::string document(std::size_t words, std::uint64_t seed) const {
    static const char* const kWords[] = {" red",   " green", " blue", " house", " king", " water", " day",
                                         " night", " one",   " two",  " three", " man",  " woman"};
    Random random(seed);
    std::string text;
    for (std::size_t i = 0; i < words; ++i) text += kWords[random.next() % std::size(kWords)];
    return text;
  }
};

TEST_F(Tasks, LambadaAsksForTheLastWord) {
  folder_.write(
      "lambada_test_openai.jsonl",
      "{\"text\": \"He went to the old castle\"}\n{\"text\": \"alone\"}\n{\"text\": \"\\\"Yes,\\\" said Tom\"}");
  const auto all = items("lambada_openai");
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].requests[0].context, encode("He went to the old"));
  EXPECT_EQ(all[0].requests[0].continuation, encode(" castle"));
  EXPECT_EQ(all[1].requests[0].context, std::vector<TokenId>{model_.bos()});
  EXPECT_EQ(all[1].requests[0].continuation, encode(" alone"));
  EXPECT_EQ(all[2].requests[0].continuation, encode(" Tom"));
  EXPECT_NE(all[0].cluster, all[1].cluster);

  TaskInput some = input();
  some.limit = 2;
  some.add_bos = true;
  const auto first = items("lambada_openai", some);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].requests[0].context.front(), model_.bos());
}

TEST_F(Tasks, LambadaValues) {
  const Task& task = *Registry<Task>::instance().find("lambada_openai");
  const std::vector<Score> scores{{{-1.5F, -0.25F}, true, std::nullopt}};
  EXPECT_DOUBLE_EQ(task.metrics[0].value({}, scores), 1.75);
  EXPECT_DOUBLE_EQ(task.metrics[1].value({}, scores), 1.0);
  EXPECT_DOUBLE_EQ(Registry<Task>::instance().find("suffix_nll")->metrics[0].value({}, scores), 0.875);
  EXPECT_DOUBLE_EQ(Registry<Task>::instance().find("recall")->metrics[0].value({}, scores), 0.875);
}

TEST_F(Tasks, LambadaNamesBrokenLines) {
  const std::string path = folder_.write("a.jsonl", "\n{\"txt\": \"no text\"}\n");
  EXPECT_THAT(error_of({"lambada_openai"}, {path}), HasSubstr(path + ":2"));
  const std::string blank = folder_.write("b.jsonl", "{\"text\": \"ends in a space \"}\n");
  EXPECT_THAT(error_of({"lambada_openai"}, {blank}), HasSubstr(blank + ":1"));
  const std::string number = folder_.write("c.jsonl", "{\"text\": 7}\n");
  EXPECT_THAT(error_of({"lambada_openai"}, {number}), HasSubstr(number + ":1"));
}

TEST_F(Tasks, UnknownTasksAndMissingDataListWhatThereIs) {
  EXPECT_THAT(error_of({"recal"}, {folder_.path()}),
              testing::AllOf(HasSubstr("'recal'"), HasSubstr("lambada_openai"), HasSubstr("suffix_nll")));
  EXPECT_THAT(error_of({"recall", "recall"}, {folder_.path()}), HasSubstr("twice"));
  EXPECT_THAT(error_of({"recall"}, {folder_.path()}),
              testing::AllOf(HasSubstr("recall"), HasSubstr("heldout.txt"), HasSubstr(folder_.path())));
  EXPECT_THAT(error_of({"recall"}, {folder_ / "absent"}), HasSubstr("absent: no such file"));
  EXPECT_THAT(error_of({"recall"}, {folder_.write("x.jsonl", "{}")}), HasSubstr("heldout.txt"));
}

TEST_F(Tasks, SuffixFollowsTheContext) {
  const std::string text = document(200, 0);
  folder_.write("heldout.txt", document(30, 1) + "<|endoftext|>" + text);
  std::vector<TokenId> ids = encode(text);
  ids.insert(ids.begin(), model_.bos());
  ASSERT_EQ(ids.size(), 201U);
  TaskInput in = input();
  in.contexts = {36, 70};
  in.excerpts = 5;
  const auto all = items("suffix_nll", in);
  ASSERT_EQ(all.size(), 3U);  // 99 of 200 tokens twice, 133 once
  for (const std::size_t i : {0U, 2U}) {
    const std::ptrdiff_t context = i == 0 ? 36 : 70;
    EXPECT_EQ(all[i].requests[0].context, std::vector<TokenId>(ids.begin(), ids.begin() + context));
    EXPECT_EQ(all[i].requests[0].continuation, std::vector<TokenId>(ids.begin() + context, ids.begin() + context + 64));
    EXPECT_EQ(all[i].groups, std::vector<std::string>{i == 0 ? "context 36" : "context 70"});
    EXPECT_EQ(all[i].cluster, 1);
  }
  // The second excerpt: begins anew, where the first ended.
  EXPECT_EQ(all[1].requests[0].context.front(), model_.bos());
  EXPECT_EQ(all[1].requests[0].context[1], ids[100]);
}

TEST_F(Tasks, RecallAsksForPassagesOfThePrompt) {
  folder_.write("heldout.txt", document(400, 3) + "<|endoftext|>" + document(500, 8));
  TaskInput in = input();
  in.contexts = {300, 400};
  const auto all = items("recall", in);
  ASSERT_EQ(all.size(), 16U);  // two lengths, two documents, two passages of each part
  const std::vector<TokenId> blank_line = encode("\n\n");
  std::set<std::ptrdiff_t> starts;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [context, continuation] = all[i].requests[0];
    const std::ptrdiff_t length = i < 8 ? 300 : 400;
    ASSERT_EQ(context.size(), static_cast<std::size_t>(length) + blank_line.size() + 32);
    EXPECT_EQ(context.front(), model_.bos());
    EXPECT_TRUE(std::equal(blank_line.begin(), blank_line.end(), context.begin() + length));
    // What was copied, and what is to follow, stands in the document, once.
    std::vector<TokenId> passage(context.end() - 32, context.end());
    passage.insert(passage.end(), continuation.begin(), continuation.end());
    ASSERT_EQ(passage.size(), 64U);
    const auto found = std::search(context.begin(), context.begin() + length, passage.begin(), passage.end());
    const std::ptrdiff_t start = found - context.begin();
    ASSERT_LE(start + 64, length);
    EXPECT_GE(start, 1);
    const auto oldest = static_cast<std::ptrdiff_t>(0.3 * static_cast<double>(context.size()));
    const bool is_old = all[i].groups[0] == "oldest 30%";
    EXPECT_EQ(is_old, i % 4 < 2);
    if (is_old) {
      EXPECT_LE(start + 64, oldest);
    } else {
      EXPECT_GE(start, oldest);
    }
    EXPECT_THAT(all[i].groups[1], HasSubstr(i < 8 ? "context 300" : "context 400"));
    starts.insert(start);
  }
  EXPECT_GE(starts.size(), 10U);  // drawn, not fixed
}

TEST_F(Tasks, RecallFollowsItsSeed) {
  folder_.write("heldout.txt", document(400, 3));
  const auto contexts = [&](std::uint64_t seed) {
    TaskInput in = input();
    in.contexts = {400};
    in.seed = seed;
    std::vector<std::vector<TokenId>> all;
    for (const Item& item : items("recall", in)) all.push_back(item.requests[0].context);
    return all;
  };
  EXPECT_EQ(contexts(1), contexts(1));
  EXPECT_NE(contexts(1), contexts(2));
}

TEST_F(Tasks, RecallSaysWhichContextsAreTooShort) {
  folder_.write("heldout.txt", document(400, 3));
  TaskInput in = input();
  in.contexts = {100};
  EXPECT_THROW(items("recall", in), Error);
  in.contexts = {220};  // the shortest
  EXPECT_EQ(items("recall", in).size(), 4U);
}

}  // namespace
}  // namespace molt::eval
