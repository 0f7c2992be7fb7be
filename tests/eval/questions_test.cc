// The benchmarks that ask questions: what they make of their data, what they refuse, how answers count.
#include "eval/questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/fail.h"
#include "eval/evaluate.h"
#include "molt/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::TempFolder;

class Questions : public testing::Test {
 protected:
  TempFolder folder_;
  Model model_ = Model::load(demo_model());

  TaskInput input() const {
    return {.model = model_, .files = {}, .limit = 1000, .contexts = {}, .excerpts = 1, .seed = 0, .add_bos = false};
  }

  /// What `task` makes of a file named `name` that holds `text`.
  TaskItems read(const std::string& task, const std::string& name, const std::string& text) {
    return read(task, name, text, input());
  }
  TaskItems read(const std::string& task, const std::string& name, const std::string& text, const TaskInput& in) {
    folder_.write(name, text);
    return read_tasks({task}, {folder_.path()}, in)[0];
  }

  std::string error_of(const std::string& task, const std::string& name, const std::string& text) {
    try {
      read(task, name, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::vector<TokenId> encode(const std::string& text) const { return model_.tokenizer().encode(text); }
};

TEST_F(Questions, PreparedFieldsShareOneContext) {
  for (const auto& [task, file] : {std::pair{"hellaswag", "hellaswag_val.jsonl"},
                                   {"arc_easy", "arc_easy_test.jsonl"},
                                   {"arc_challenge", "arc_challenge_test.jsonl"}}) {
    const TaskItems all =
        read(task, file,
             "{\"query\": \"Question: Who sat on the throne?\\nAnswer:\", \"choices\": [\"the king\", \"a horse\", "
             "\"na\u00EFve\"], \"gold\": 2}\n");
    ASSERT_EQ(all.items.size(), 1U);
    const Item& item = all.items[0];
    ASSERT_EQ(item.requests.size(), 3U);
    for (const Request& request : item.requests) {
      EXPECT_EQ(request.context, encode("Question: Who sat on the throne?\nAnswer:"));
    }
    EXPECT_EQ(item.requests[1].continuation, encode(" a horse"));
    EXPECT_EQ(item.answer, 2U);
    EXPECT_EQ(item.characters, (std::vector<std::int64_t>{8, 7, 5}));
  }
}

TEST_F(Questions, WinograndeScoresTheRestBehindEachName) {
  const TaskItems all = read("winogrande", "winogrande_xl_dev.jsonl",
                             "{\"sentence\": \"The cup fell because _ was too wide.\", \"option1\": \"the cup\", "
                             "\"option2\": \"the table\", \"answer\": \"2\"}\n");
  const Item& item = all.items[0];
  ASSERT_EQ(item.requests.size(), 2U);
  EXPECT_EQ(item.requests[0].context, encode("The cup fell because the cup"));
  EXPECT_EQ(item.requests[1].context, encode("The cup fell because the table"));
  EXPECT_EQ(item.requests[0].continuation, encode(" was too wide."));
  EXPECT_EQ(item.requests[1].continuation, item.requests[0].continuation);
  EXPECT_EQ(item.answer, 1U);
}

TEST_F(Questions, PiqaFindsItsLabelsBesideTheQuestions) {
  const std::string question = "{\"goal\": \"boil water\", \"sol1\": \"with fire\", \"sol2\": \"with ice\"}\n";
  folder_.write("piqa_valid-labels.lst", "1\n0\n7\n");
  // The broken line has a label, too.
  const TaskItems all = read("piqa", "piqa_valid.jsonl", question + "broken\n" + question + question);
  ASSERT_EQ(all.items.size(), 1U);
  EXPECT_EQ(all.items[0].answer, 1U);
  EXPECT_EQ(all.items[0].requests[0].context, encode("Question: boil water\nAnswer:"));
  EXPECT_EQ(all.items[0].requests[1].continuation, encode(" with ice"));
  EXPECT_EQ(all.problems.count(), 3U);
  EXPECT_THAT(all.problems.text(),
              AllOf(HasSubstr("piqa_valid.jsonl:2"), HasSubstr("labels.lst:3, must be 0 or 1, not '7'"),
                    HasSubstr("ends before it, with 3 labels")));
  // Without such a file the label stands on the line, or nowhere.
  std::filesystem::remove(folder_ / "piqa_valid.jsonl");
  EXPECT_THAT(error_of("piqa", "piqa.jsonl", question), HasSubstr("piqa-labels.lst"));
}

TEST_F(Questions, LinesWithoutLabelsAreNamed) {
  const std::string arc = "{\"question\": \"Who?\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}";
  const TaskItems all = read("arc_easy", "arc_easy.jsonl",
                             arc + ", \"answerKey\": \"B\"}\n" + arc + ", \"answerKey\": \"E\"}\n" + arc + "}\n" + arc +
                                 ", \"answerKey\": \"\"}");
  ASSERT_EQ(all.items.size(), 1U);
  EXPECT_EQ(all.items[0].answer, 1U);
  EXPECT_EQ(all.problems.count(), 3U);
  EXPECT_THAT(all.problems.text(),
              AllOf(HasSubstr("arc_easy.jsonl:2: \"answerKey\" is \"E\", but the choices are labelled A, B"),
                    HasSubstr("arc_easy.jsonl:3: has no label"), HasSubstr("arc_easy.jsonl:4: has no label")));

  const std::string swag = "{\"query\": \"Who\", \"choices\": [\"a\", \"b\"], \"gold\": ";
  const TaskItems prepared =
      read("hellaswag", "hellaswag.jsonl",
           swag + "-1}\n" + swag + "null}\n" + swag + "2}\n" + swag + "\"x\"}\n" + swag + "1}\n");
  EXPECT_EQ(prepared.items.size(), 1U);
  EXPECT_THAT(prepared.problems.text(),
              AllOf(HasSubstr("jsonl:1: has no label"), HasSubstr("jsonl:2: has no label"),
                    HasSubstr("jsonl:3: the answer 2 is none of its 2 choices"), HasSubstr("jsonl:4: \"gold\"")));
  // A file without any is an error, which says what to do.
  EXPECT_THAT(error_of("hellaswag", "hellaswag.jsonl", swag + "\"\"}\n" + swag + "\"\"}\n"),
              AllOf(HasSubstr("hellaswag: no line holds an item"), HasSubstr("hellaswag.jsonl:2"),
                    HasSubstr("validation set")));
}

TEST_F(Questions, WhatIsNoQuestionIsNamed) {
  const auto problem = [&](const std::string& task, const std::string& line) {
    return error_of(task, std::string(task) + ".jsonl", line + "\n");
  };
  EXPECT_THAT(problem("hellaswag", R"({"query": "Who", "choices": ["a"], "gold": 0})"), HasSubstr("has 1 choices"));
  EXPECT_THAT(problem("hellaswag", R"({"query": "Who", "choices": ["a", ""], "gold": 0})"),
              HasSubstr("choice 1 is empty"));
  EXPECT_THAT(problem("hellaswag", R"({"query": "Who", "choices": ["a", 7], "gold": 0})"), HasSubstr("strings only"));
  EXPECT_THAT(problem("hellaswag", R"({"query": "Who", "choices": "ab", "gold": 0})"), HasSubstr("list of strings"));
  EXPECT_THAT(problem("hellaswag", R"({"question": "Who"})"), HasSubstr("hellaswag.jsonl:1"));
  EXPECT_THAT(problem("arc_easy", R"({"question": "Who", "choices": ["a", "b"], "answerKey": "A"})"),
              HasSubstr("\"text\" and \"label\""));
  EXPECT_THAT(problem("arc_easy", R"({"question": "Who", "choices": {"text": ["a", "b"], "label": ["A"]}})"),
              HasSubstr("has 2 choices, but labels for 1"));
  const std::string options = R"("option1": "a", "option2": "b")";
  EXPECT_THAT(problem("winogrande", R"({"sentence": "No gap.", "answer": "1", )" + options + "}"), HasSubstr("no gap"));
  EXPECT_THAT(problem("winogrande", R"({"sentence": "Gap _ ", "answer": "1", )" + options + "}"),
              HasSubstr("nothing follows"));
  EXPECT_THAT(problem("winogrande", R"({"sentence": "A _ here.", "answer": "3", )" + options + "}"),
              HasSubstr("must be 1 or 2, not 3"));
  EXPECT_THAT(problem("winogrande", R"({"sentence": "A _ here.", "answer": "", )" + options + "}"),
              HasSubstr("has no label"));
}

TEST_F(Questions, ChoiceWithoutTokensOfItsOwnIsNamed) {
  // Where the context's last token takes in all of the continuation, nothing is left to score.
  ASSERT_EQ(encode("un").size(), 1U);
  TaskInput in = input();
  in.files = {folder_.write("lambada_openai.jsonl", "{}\n")};
  const Reading reading = read_questions(in, [](const JsonLine& /*line*/) { return Question{{{"u", "n", 1}}, 0}; });
  EXPECT_TRUE(reading.items.empty());
  EXPECT_THAT(reading.problems.text(), AllOf(HasSubstr("lambada_openai.jsonl:1"), HasSubstr("\"n\" adds no token")));
}

TEST_F(Questions, EmptyContextIsTheBeginOfText) {
  const TaskItems all =
      read("hellaswag", "hellaswag.jsonl", R"({"query": "", "choices": ["the king", "a horse"], "gold": 0})");
  EXPECT_EQ(all.items[0].requests[0].context, std::vector<TokenId>{model_.bos()});
  EXPECT_EQ(all.items[0].requests[0].continuation, encode(" the king"));
}

TEST_F(Questions, LongItemsAreShortenedAndCounted) {
  TaskInput in = input();
  in.max_length = 6;
  std::string text;
  for (const char* query : {"one two three four five six seven", "one"}) {
    text += fmt::format(R"({{"query": "{}", "choices": ["red", "blue"], "gold": 0}})", query) + "\n";
  }
  text += R"({"query": "one", "choices": ["red", "one two three four five six seven"], "gold": 0})";
  const TaskItems all = read("hellaswag", "hellaswag.jsonl", text, in);
  ASSERT_EQ(all.items.size(), 2U);
  EXPECT_EQ(all.shortened, 1);
  EXPECT_EQ(all.items[0].requests[0].context, encode(" two three four five six seven"));
  EXPECT_EQ(all.items[1].requests[0].context, encode("one"));
  EXPECT_THAT(all.problems.text(), AllOf(HasSubstr("jsonl:3"), HasSubstr("7 tokens, more than the 6")));
}

TEST_F(Questions, LimitCountsItems) {
  TaskInput in = input();
  in.limit = 2;
  const std::string line = R"({"query": "one", "choices": ["red", "blue"], "gold": 0})";
  const TaskItems all =
      read("hellaswag", "hellaswag.jsonl", "broken\n" + line + "\n" + line + "\n" + line + "\nbroken too\n", in);
  EXPECT_EQ(all.items.size(), 2U);
  EXPECT_EQ(all.problems.count(), 1U);  // what comes behind the last wanted item is not looked at
  EXPECT_NE(all.items[0].cluster, all.items[1].cluster);
}

TEST(Accuracy, CountsTheLikeliestChoice) {
  Item item;
  item.answer = 1;
  item.characters = {10, 2, 10};
  const auto score = [](float logprob) { return Score{{logprob, logprob}, false, std::nullopt}; };
  const std::vector<Score> scores{score(-3), score(-1), score(-2)};
  EXPECT_EQ(accuracy().value(item, scores), 1.0);
  EXPECT_EQ(normalized_accuracy().value(item, scores), 0.0);  // -2 / 2 a character against -4 / 10
  item.answer = 2;
  EXPECT_EQ(accuracy().value(item, scores), 0.0);
  EXPECT_EQ(normalized_accuracy().value(item, scores), 1.0);
  // Of equal ones the first.
  const std::vector<Score> equal{score(-1), score(-1), score(-1)};
  item.answer = 0;
  item.characters = {4, 4, 4};
  EXPECT_EQ(accuracy().value(item, equal), 1.0);
  item.answer = 1;
  EXPECT_EQ(accuracy().value(item, equal), 0.0);
}

}  // namespace
}  // namespace molt::eval
