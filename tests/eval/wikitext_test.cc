// Articles as running text: windows, what counts as words and bytes, perplexities.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "eval/evaluate.h"
#include "molt/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::TempFolder;

class WikiText : public testing::Test {
 protected:
  TempFolder folder_;
  Model model_ = Model::load(demo_model());

  TaskItems read(const std::string& name, const std::string& text, std::int64_t max_length = 2048) {
    folder_.write(name, text);
    return read_tasks({"wikitext"}, {folder_.path()},
                      {.model = model_, .files = {}, .limit = 1000, .contexts = {}, .max_length = max_length})[0];
  }
};

TEST_F(WikiText, ArticlesAndWhatTheyCount) {
  const std::string first = " = One = \n \n The cup , the @-@ cup . ";
  const TaskItems all = read("wikitext2_raw_test.txt", " \n" + first + "\n = Two = \n Na\u00EFve . \n");
  ASSERT_EQ(all.items.size(), 2U);
  EXPECT_EQ(all.items[0].words, 12);  // = One = The cup , the @-@ cup . and an empty one at each end
  EXPECT_EQ(all.items[0].bytes, static_cast<std::int64_t>(first.size()));  // without the line's end before the title
  EXPECT_EQ(all.items[1].bytes, static_cast<std::int64_t>(std::string(" = Two = \n Na\u00EFve . \n").size()));
  ASSERT_EQ(all.items[0].requests.size(), 1U);
  EXPECT_EQ(all.items[0].requests[0].context, std::vector<TokenId>{model_.bos()});
  EXPECT_EQ(model_.tokenizer().decode(all.items[0].requests[0].continuation), " = One =\n\nThe cup, the-cup. ");
}

TEST_F(WikiText, WindowsPredictEveryTokenOnce) {
  std::string text;
  for (int i = 0; i < 23; ++i) text += i % 3 == 0 ? " red" : i % 3 == 1 ? " green" : " house";
  const std::vector<TokenId> ids = model_.tokenizer().encode(text);
  ASSERT_EQ(ids.size(), 23U);
  for (const std::int64_t length : {1, 4, 10, 22, 23, 24}) {
    const TaskItems all = read("wikitext.jsonl", "{\"page\": \"" + text + "\"}\n", length);
    std::vector<TokenId> predicted;
    for (const Request& request : all.items[0].requests) {
      // A window reads at most `length` tokens, the last one predicted not among them, and all but the first are full.
      const auto read = static_cast<std::int64_t>(request.context.size() + request.continuation.size()) - 1;
      EXPECT_EQ(read, std::min<std::int64_t>(length, 23));
      // What it reads before the first prediction is what was predicted last, or the begin of the text.
      if (predicted.empty()) {
        EXPECT_EQ(request.context, std::vector<TokenId>{model_.bos()});
      } else {
        EXPECT_TRUE(std::equal(request.context.rbegin(), request.context.rend(), predicted.rbegin()));
      }
      predicted.insert(predicted.end(), request.continuation.begin(), request.continuation.end());
    }
    EXPECT_EQ(predicted, ids);
  }
}

TEST_F(WikiText, FiguresAreRatiosOfSums) {
  const TaskItems all = read("wikitext.jsonl", "{\"page\": \"one two three\"}\n{\"page\": \"one\"}\n");
  Session session(model_, {.window = 2048});
  const Evaluation evaluation = evaluate(model_, {all}, {}, {});
  double nll = 0;
  for (const char* page : {"one two three", "one"}) {
    std::vector<TokenId> ids = model_.tokenizer().encode(page);
    State state(model_);
    TokenId before = model_.bos();
    for (const TokenId id : ids) {
      const std::span<const float> logits = session.feed(state, std::vector<TokenId>{before});
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      nll += std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
      before = id;
    }
  }
  const auto& figures = evaluation.tasks[0].groups[0].rows[0].figures;
  EXPECT_EQ(figures[0].metric, "nll_per_word");
  // Words 3 and 1; bytes 13 and 3. Batches of bfloat16 weights round otherwise than single tokens do.
  EXPECT_NEAR(figures[0].value.mean, nll / 4, 0.02);
  EXPECT_NEAR(figures[1].value.mean, figures[0].value.mean * 4 / 16, 1e-9);
  EXPECT_NEAR(figures[2].value.mean, figures[1].value.mean / std::log(2.0), 1e-9);
}

TEST_F(WikiText, BadInputIsNamed) {
  const TaskItems all = read("wikitext.jsonl", "{\"page\": \"fine\"}\n{\"text\": \"no page\"}\n{\"page\": \"\"}\n");
  EXPECT_EQ(all.items.size(), 1U);
  EXPECT_THAT(all.problems.text(),
              testing::AllOf(HasSubstr("wikitext.jsonl:2"), HasSubstr("wikitext.jsonl:3: the article is empty")));
  const TaskItems broken = read("wikitext2_raw_test.txt", " = A = \n text \n = B = \n \xFF \n");
  EXPECT_EQ(broken.items.size(), 2U);  // the other file's and A
  EXPECT_THAT(broken.problems.text(), HasSubstr("wikitext2_raw_test.txt:3: byte 9 of the article"));
}

}  // namespace
}  // namespace molt::eval
