// Documents of plain text, each read in one go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "eval/evaluate.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::TempFolder;

class Perplexity : public testing::Test {
 protected:
  TempFolder folder_;
  Model model_ = Model::load(demo_model());

  TaskItems read(const std::string& text) {
    folder_.write("heldout.txt", text);
    return read_tasks({"perplexity"}, {folder_.path()},
                      {.model = model_, .files = {}, .limit = 1000, .contexts = {}})[0];
  }

  /// -log p of a text's tokens behind the begin-of-text token, one by one.
  double nll_of(const std::string& text) {
    Session session(model_, {.window = 2048});
    State state(model_);
    double nll = 0;
    TokenId before = model_.bos();
    for (const TokenId id : model_.tokenizer().encode(text)) {
      const std::span<const float> logits = session.feed(state, std::vector<TokenId>{before});
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      nll += std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
      before = id;
    }
    return nll;
  }
};

TEST_F(Perplexity, IsOverAllTokensOfAllDocuments) {
  const std::string first = "The cup stood on the table, and nobody had touched it.";
  const std::string second = "Na\u00EFve.";
  const TaskItems all = read(first + "<|endoftext|>" + second);
  ASSERT_EQ(all.items.size(), 2U);
  EXPECT_NE(all.items[0].cluster, all.items[1].cluster);
  const std::size_t tokens =
      all.items[0].requests[0].continuation.size() + all.items[1].requests[0].continuation.size();

  const Evaluation evaluation = evaluate(model_, {all}, {}, {});
  const auto& figures = evaluation.tasks[0].groups[0].rows[0].figures;
  // Batches of bfloat16 weights round otherwise than single tokens do.
  const double nll = nll_of(first) + nll_of(second);
  EXPECT_NEAR(figures[0].value.mean, nll / static_cast<double>(tokens), 0.01);
  EXPECT_NEAR(figures[1].value.mean, nll / std::log(2.0) / static_cast<double>(first.size() + second.size()), 0.01);
}

TEST_F(Perplexity, LeavesOutWhatIsNoText) {
  const TaskItems all = read("one<|endoftext|>\xFF two<|endoftext|>three");
  EXPECT_EQ(all.items.size(), 2U);
  EXPECT_THAT(all.problems.text(), HasSubstr("heldout.txt:1: byte 0 of the document that begins here is no UTF-8"));
}

}  // namespace
}  // namespace molt::eval
