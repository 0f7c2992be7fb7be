// molt eval as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/markup.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing_support::demo_model;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

class Eval : public testing::Test {
 protected:
  TempFolder folder_;
  std::string lambada_ =
      folder_.write("lambada_test_openai.jsonl",
                    "{\"text\": \"The old man opened the door of the house and went into the house\"}\n"
                    "{\"text\": \"She looked at the sea, and again at the sea\"}\n"
                    "{\"text\": \"In the morning they came back to the city\"}\n");

  std::vector<std::string> arguments(std::vector<std::string> more) const {
    std::vector<std::string> all{"eval", demo_model(), "--tasks", "lambada_openai", "--data", folder_.path()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(Eval, JsonHoldsEveryFigure) {
  const std::string out = folder_ / "result.json";
  const auto finished = molt(arguments({"--reduce", "truncate:flops=0.3", "--json", "--kl", "--out", out}));
  ASSERT_TRUE(succeeds(finished));
  const json result = json::parse(finished.out);
  EXPECT_EQ(json::parse(testing_support::read_file(out)), result);
  EXPECT_TRUE(result["complete"].get<bool>());
  EXPECT_EQ(result["fingerprint"].get<std::string>().size(), 16U);
  EXPECT_EQ(result["reductions"]["truncate:flops=0.3"]["method"], "truncate");
  const json& rows = result["tasks"][0]["groups"][0]["settings"];
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["setting"], "dense");
  const json& dense = rows[0]["figures"]["nll"];
  const json& reduced = rows[1]["figures"]["nll"];
  EXPECT_NEAR(reduced["change"]["mean"].get<double>(), reduced["mean"].get<double>() - dense["mean"].get<double>(),
              1e-9);
  EXPECT_NEAR(dense["perplexity"]["mean"].get<double>(), std::exp(dense["mean"].get<double>()), 1e-6);
  EXPECT_GT(rows[1]["figures"]["kl"]["mean"].get<double>(), 0);
  EXPECT_GT(rows[1]["cut"].get<double>(), 0.1);
  EXPECT_TRUE(rows[0]["figures"].contains("acc"));
}

TEST_F(Eval, SamplesHoldEveryItem) {
  const auto finished = molt(arguments({"--reduce", "truncate:flops=0.3", "--json", "--samples", "--limit", "2"}));
  ASSERT_TRUE(succeeds(finished));
  const json task = json::parse(finished.out)["tasks"][0];
  ASSERT_EQ(task["samples"].size(), 2U);
  EXPECT_EQ(task["samples"][1]["requests"][0]["continuation"], " sea");
  const std::size_t tokens = task["samples"][1]["requests"][0]["continuation_ids"].size();
  for (const char* setting : {"dense", "truncate:flops=0.3"}) {
    double sum = 0;
    for (const json& sample : task["samples"]) {
      const json& entry = sample["settings"][setting];
      double nll = 0;
      for (const json& logprob : entry["scores"][0]["logprobs"]) nll -= logprob.get<double>();
      EXPECT_NEAR(entry["figures"]["nll"].get<double>(), nll, 1e-5);
      sum += nll;
    }
    EXPECT_EQ(task["samples"][1]["settings"][setting]["scores"][0]["logprobs"].size(), tokens);
    const json& rows = task["groups"][0]["settings"];
    const json& row = rows[std::string(setting) == "dense" ? 0 : 1];
    EXPECT_NEAR(row["figures"]["nll"]["mean"].get<double>(), sum / 2, 1e-5);
  }
  EXPECT_TRUE(is_refused(molt(arguments({"--samples"})), {"--samples", "--json", "--out"}));
}

TEST_F(Eval, HtmlIsOnePageOfItsOwn) {
  const std::string path = folder_ / "report.html";
  const auto finished =
      molt(arguments({"--reduce", "truncate:flops=0.3", "--reduce", "utr:flops=0.2", "--html", path}));
  ASSERT_TRUE(succeeds(finished));
  const std::string html = testing_support::read_file(path);
  EXPECT_TRUE(testing_support::loads_nothing(html));
  for (const char* part :
       {"<h1>demo</h1>", "lambada_openai", "3 items of 1 task", "under 2 reductions", "perplexity", "fingerprint",
        "What each method throws away", "pruned before the first block", "utr:flops=0.2"}) {
    EXPECT_THAT(html, testing::HasSubstr(part));
  }
  EXPECT_TRUE(is_refused(molt(arguments({"--html", folder_ / "no/folder.html"})), {"no/folder"}));
}

TEST_F(Eval, TableAndResume) {
  const std::string journal = folder_ / "run.jsonl";
  const auto first = molt(arguments({"--limit", "2", "--resume", journal}));
  ASSERT_TRUE(succeeds(first));
  EXPECT_THAT(first.out, testing::HasSubstr("2 items"));
  const auto second = molt(arguments({"--resume", journal, "--reduce", "oldest:flops=0.3"}));
  ASSERT_TRUE(succeeds(second));
  EXPECT_THAT(second.out, testing::HasSubstr("oldest:flops=0.3"));
  EXPECT_TRUE(is_refused(molt(arguments({"--resume", journal, "--dtype", "f32"})), {journal, "name another file"}));
}

TEST_F(Eval, BadInputIsNamed) {
  for (const std::string shard : {"0/2", "3/2", "2", "/", "1/", "a/b", "1/2x", "-1/2", "1/99999999999999999999999"}) {
    EXPECT_TRUE(is_refused(molt(arguments({"--shard", shard})), {"--shard is '" + shard + "'", "2/8"}));
  }
  EXPECT_TRUE(is_refused(molt({"eval", demo_model(), "--tasks", "lambada", "--data", folder_.path()}),
                         {"unknown task 'lambada'", "lambada_openai", "recall"}));
  EXPECT_TRUE(is_refused(molt({"eval", demo_model(), "--tasks", "recall", "--data", folder_.path()}),
                         {"recall", "heldout.txt", folder_.path()}));
  EXPECT_TRUE(is_refused(molt({"eval", demo_model(), "--tasks", "lambada_openai", "--data", folder_ / "none"}),
                         {folder_ / "none"}));
  folder_.write("lambada_test_openai.jsonl", "{\"text\": \"ends in nothing \"}\n{\"text\": \"broken\n");
  EXPECT_TRUE(is_refused(molt(arguments({})), {"no line holds an item", lambada_ + ":1", lambada_ + ":2"}));
  folder_.write("lambada_test_openai.jsonl", "{\"text\": \"fine so far\"}\n");
  EXPECT_TRUE(is_refused(molt(arguments({"--reduce", "nosuch"})), {"nosuch", "truncate"}));
  EXPECT_TRUE(is_refused(molt(arguments({"--out", folder_ / "no/folder"})), {"no/folder"}));
  EXPECT_TRUE(is_refused(molt({"eval", testing_support::fixture("tiny/mamba2-tiny"), "--tasks", "lambada_openai",
                               "--data", folder_.path()}),
                         {"tokenizer"}));
}

TEST_F(Eval, BrokenLinesAndLongItemsAreToldAndTheRestRuns) {
  folder_.write("lambada_test_openai.jsonl",
                "{\"text\": \"The old man opened the door of the house and went into the house\"}\n"
                "{\"text\": \"broken\n{\"txt\": \"no text\"}\n{\"text\": \"went home\"}\n");
  const auto table = molt(arguments({"--max-length", "8"}));
  ASSERT_TRUE(succeeds(table));
  for (const std::string& part : {lambada_ + ":2", lambada_ + ":3"}) EXPECT_THAT(table.err, testing::HasSubstr(part));
  EXPECT_THAT(table.out, testing::HasSubstr("2 items"));
  EXPECT_THAT(table.out, testing::HasSubstr("lambada_openai: 2 broken lines left out"));
  EXPECT_THAT(table.out, testing::HasSubstr("1 of 2 items longer than --max-length"));
  const auto finished = molt(arguments({"--json"}));
  ASSERT_TRUE(succeeds(finished));
  const json result = json::parse(finished.out);
  EXPECT_EQ(result["tasks"][0]["items"], 2);
  EXPECT_EQ(result["tasks"][0]["lines_left_out"], 2);
  EXPECT_EQ(result["tasks"][0]["items_shortened"], 0);
}

TEST_F(Eval, QuestionsCountRightAnswersOfEverySetting) {
  folder_.write("piqa.jsonl",
                "{\"goal\": \"Boil water\", \"sol1\": \"with a fire\", \"sol2\": \"with zzxq\", \"label\": 0}\n"
                "{\"goal\": \"Boil an egg\", \"sol1\": \"with vvkj\", \"sol2\": \"with hot water\", \"label\": 1}\n");
  const auto finished = molt(
      {"eval", demo_model(), "--tasks", "piqa", "--data", folder_.path(), "--reduce", "truncate:flops=0.2", "--json"});
  ASSERT_TRUE(succeeds(finished));
  const json rows = json::parse(finished.out)["tasks"][0]["groups"][0]["settings"];
  for (const json& row : rows) {
    EXPECT_EQ(row["figures"]["acc"]["mean"], 1.0);
    EXPECT_TRUE(row["figures"].contains("acc_norm"));
  }
  EXPECT_EQ(rows[1]["figures"]["acc"]["change"]["mean"], 0.0);
}

TEST_F(Eval, HelpListsTheTasks) {
  const auto help = molt({"eval", "--help"});
  ASSERT_TRUE(succeeds(help));
  for (const char* part : {"lambada_openai", "hellaswag", "piqa", "arc_easy", "arc_challenge", "winogrande", "wikitext",
                           "perplexity", "suffix_nll", "recall", "heldout.txt", "Examples"}) {
    EXPECT_THAT(help.out, testing::HasSubstr(part));
  }
}

}  // namespace
}  // namespace molt
