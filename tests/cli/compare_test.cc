// molt compare as a user meets it: its figures are the library's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "molt/generate.h"
#include "tests/support/markup.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

const std::string kPage = demo_model() + "/page.txt";

/// Mean -log p of `suffix` behind `state`, whose next-token logits are `logits`.
double mean_nll(Session& session, State& state, std::vector<float> logits, std::span<const TokenId> suffix) {
  double sum = 0;
  for (const TokenId id : suffix) {
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit) - logits[0]);
    sum += std::log(total) - (static_cast<double>(logits[static_cast<std::size_t>(id)]) - logits[0]);
    const auto next = session.feed(state, {&id, 1});
    logits.assign(next.begin(), next.end());
  }
  return sum / static_cast<double>(suffix.size());
}

TEST(Compare, ItsFiguresAreTheLibrarys) {
  const std::vector<std::string> specs{"truncate:flops=0.4", "utr"};
  const auto finished = molt({"compare", demo_model(), "--prompt-file", kPage, "--bos", "--suffix", "20", "-n", "7",
                              "--repeat", "2", "--reduce", specs[0], "--reduce", specs[1], "--json", "--dtype", "f32"});
  ASSERT_TRUE(succeeds(finished));
  const json result = json::parse(finished.out);

  const Model model = Model::load(demo_model(), {.weights = WeightType::f32});
  std::vector<TokenId> ids = model.tokenizer().encode(testing_support::read_file(kPage));
  ids.insert(ids.begin(), model.bos());
  const auto prompt = std::span<const TokenId>(ids).first(ids.size() - 20);
  const auto suffix = std::span<const TokenId>(ids).last(20);
  EXPECT_EQ(result["tokens"], prompt.size());
  EXPECT_EQ(result["suffix"], 20);
  EXPECT_EQ(result["suffix_text"], model.tokenizer().decode(suffix));
  ASSERT_EQ(result["settings"].size(), 3U);

  Session session(model);
  double dense_nll = 0;
  for (std::size_t s = 0; s < 3; ++s) {
    const json& row = result["settings"][s];
    SCOPED_TRACE(row["setting"].get<std::string>());
    std::optional<Reduction> reduction;
    if (s > 0) reduction = Reduction::parse(model, specs[s - 1]);
    EXPECT_EQ(row["setting"], s == 0 ? "dense" : specs[s - 1]);
    State state(model);
    ReductionRecord record;
    const auto logits =
        session.feed(state, prompt, {.reduction = reduction ? &*reduction : nullptr, .record = &record});
    const double nll = mean_nll(session, state, {logits.begin(), logits.end()}, suffix);
    if (s == 0) dense_nll = nll;
    EXPECT_NEAR(row["nll"].get<double>(), nll, 1e-4);
    EXPECT_NEAR(row["nll_change"].get<double>(), nll - dense_nll, 2e-4);
    EXPECT_EQ(row["kl"].get<double>() > 0, s > 0);
    EXPECT_EQ(row["all_seconds"].size(), 2U);
    EXPECT_GT(row["seconds"].get<double>(), 0);
    EXPECT_GT(row["scratch_bytes"].get<double>(), 0);
    // The process held the weights, too: 11 million float32 numbers and more.
    EXPECT_GT(row["peak_memory_bytes"].get<double>(), row["scratch_bytes"].get<double>() + 44e6);
    State fresh(model);
    GenerateOptions options;
    options.max_tokens = 7;
    options.reduction = reduction ? &*reduction : nullptr;
    EXPECT_EQ(row["ids"].get<std::vector<TokenId>>(), generate(session, fresh, prompt, options).ids);
    if (s == 0) {
      EXPECT_TRUE(row["reduction"].is_null());
    } else {
      EXPECT_EQ(row["reduction"]["full_by_layer"].get<std::vector<std::int64_t>>(), record.full);
      EXPECT_EQ(row["reduction"]["cut"].get<double>(), record.cut());
      ASSERT_EQ(row["reduction"]["fates"].size(), record.fates.size());
      EXPECT_EQ(row["reduction"]["fates"][0]["position"], record.fates[0].position);
    }
  }
}

TEST(Compare, TheTableShowsLayersAndTexts) {
  const auto finished = molt({"compare", demo_model(), "--prompt-file", kPage, "--suffix", "64", "-n", "3", "--repeat",
                              "1", "--reduce", "truncate:flops=0.5", "--reduce", "bypass:flops=0.25,from=2,to=14"});
  ASSERT_TRUE(succeeds(finished));
  for (const char* part :
       {"1121 tokens read, the next 64 of the text scored", "-50.0%", "-25.0%", "0-15: 1121\n", "0-15: 560\n",
        "0-1: 1121, 2-13: 748, 14-15: 1121\n", "the text", "leaning against it myself.\\n\""}) {
    EXPECT_THAT(finished.out, HasSubstr(part));
  }
}

TEST(Compare, HtmlIsOnePageOfItsOwn) {
  const TempFolder folder;
  const std::string text =
      folder.write("text.txt", "</script> \"The\" old man & the sea \xF0\x9F\x99\x82 \x01\n<b>again</b>");
  const std::string path = folder / "page.html";
  const auto finished = molt({"compare", demo_model(), "--prompt-file", text, "--suffix", "4", "-n", "3", "--repeat",
                              "1", "--reduce", "utr:flops=0.3", "--html", path});
  ASSERT_TRUE(succeeds(finished));
  EXPECT_THAT(finished.out, HasSubstr("How it goes on"));
  const std::string html = testing_support::read_file(path);
  EXPECT_TRUE(testing_support::loads_nothing(html));
  for (const char* part : {"<h1>demo</h1>", "memory", "🙂", "␁", "fingerprint", "behind block"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_TRUE(
      is_refused(molt({"compare", demo_model(), "-p", "x", "--html", folder / "no/page.html"}), {"no/page.html"}));
}

TEST(Compare, WithoutASuffixNothingIsScored) {
  const auto finished = molt({"compare", demo_model(), "--prompt", "The old man went to the sea", "--suffix", "0", "-n",
                              "2", "--repeat", "1", "--reduce", "stride:flops=0.2", "--json"});
  ASSERT_TRUE(succeeds(finished));
  const json result = json::parse(finished.out);
  EXPECT_FALSE(result["settings"][1].contains("nll"));
  EXPECT_EQ(result["tokens"], 7);
}

TEST(Compare, BadInputIsNamed) {
  const TempFolder folder;
  const std::string text = folder.write("text.txt", "The old man went to the sea");
  const auto compare = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"compare", demo_model()});
    return molt(std::move(arguments));
  };
  EXPECT_TRUE(is_refused(compare({"--prompt-file", text}), {text, "has 7 tokens", "--suffix 64"}));
  EXPECT_TRUE(is_refused(compare({"--prompt", "short", "--suffix", "5"}), {"--prompt", "--suffix 5"}));
  EXPECT_TRUE(is_refused(compare({"--prompt-file", folder / "absent"}), {folder / "absent"}));
  EXPECT_TRUE(is_refused(compare({"--prompt-file", folder.write("bytes", "\xFF\xFE bytes")}), {folder / "bytes"}));
  EXPECT_TRUE(is_refused(compare({}), {"--prompt-file"}));
  EXPECT_TRUE(is_refused(compare({"--prompt-file", kPage, "--reduce", "utr:scope=sequence"}), {"scope"}));
  EXPECT_TRUE(is_refused(compare({"--prompt-file", kPage, "--suffix", "-1"}), {"--suffix"}));
  EXPECT_TRUE(is_refused(molt({"compare", testing_support::fixture("tiny/mamba2-tiny"), "-p", "x"}), {"tokenizer"}));
}

}  // namespace
}  // namespace molt
