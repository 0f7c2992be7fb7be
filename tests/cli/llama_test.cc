// The commands on models of the LLaMA family: that all of them run, and that what makes no sense there is refused.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

const std::string kFile = fixture("gguf/llama.gguf");  // texts of up to 256 tokens

TEST(LlamaCommands, InspectTellsWhatATokenKeeps) {
  const auto json = molt({"inspect", kFile, "--json"});
  ASSERT_TRUE(succeeds(json));
  const auto description = nlohmann::json::parse(json.out);
  EXPECT_EQ(description["blocks"], (nlohmann::json{{"attention", 2}, {"mlp", 2}}));
  EXPECT_EQ(description["state_bytes"], 0);
  EXPECT_EQ(description["state_bytes_per_token"], 2 * 2 * 2 * 16 * 4);  // layers, keys and values, heads, channels
  EXPECT_EQ(description["max_tokens"], 256);
  const auto table = molt({"inspect", kFile});
  ASSERT_TRUE(succeeds(table));
  EXPECT_NE(table.out.find("512 B in f32 a token"), std::string::npos) << table;
}

TEST(LlamaCommands, GenerateGoesOnFromASavedState) {
  const TempFolder folder;
  const std::string state = folder / "text.state";
  const auto whole = molt({"generate", kFile, "--prompt", "the 123 and the", "--max-tokens", "12", "--ignore-eos"});
  const auto first = molt(
      {"generate", kFile, "--prompt", "the 123 and the", "--max-tokens", "5", "--ignore-eos", "--save-state", state});
  const auto rest = molt({"generate", kFile, "--load-state", state, "--max-tokens", "7", "--ignore-eos"});
  ASSERT_TRUE(succeeds(whole) && succeeds(first) && succeeds(rest));
  EXPECT_EQ(first.out.substr(0, first.out.size() - 1) + rest.out, whole.out);  // but for the line's end
}

TEST(LlamaCommands, TextsBeyondTheLongestAreRefused) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += " the";
  EXPECT_TRUE(is_refused(molt({"generate", kFile, "--prompt", text}),
                         {"would be 300 tokens long", "llama.gguf was made for texts of up to 256"}));
}

TEST(LlamaCommands, PerplexityReadsLongDocumentsInWindows) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) text += i % 3 == 0 ? " and" : " the";
  folder.write("heldout.txt", text);
  const auto result = molt({"eval", kFile, "--tasks", "perplexity", "--data", folder.path(), "--json"});
  ASSERT_TRUE(succeeds(result));
  EXPECT_NE(result.out.find("nll_per_token"), std::string::npos);
}

TEST(LlamaCommands, BenchMeasures) {
  const auto result = molt({"bench", kFile, "--prefill", "70", "--decode", "3", "--batch", "1,2", "--repeat", "1",
                            "--no-ceilings", "--ops", "--json"});
  ASSERT_TRUE(succeeds(result));
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["results"].size(), 4U);
  EXPECT_EQ(json["state_bytes_per_token"], 512);
  EXPECT_NE(result.out.find("\"attention\""), std::string::npos);
}

TEST(LlamaCommands, QuantizeWritesAModel) {
  const TempFolder folder;
  ASSERT_TRUE(succeeds(molt({"quantize", fixture("tiny/llama-bias"), "--out", folder / "small"})));
  const auto json = molt({"inspect", folder / "small", "--json"});
  ASSERT_TRUE(succeeds(json));
  const auto description = nlohmann::json::parse(json.out);
  EXPECT_EQ(description["dtypes"]["matrices"], "int8");
  EXPECT_EQ(description["parameters"],
            nlohmann::json::parse(molt({"inspect", fixture("tiny/llama-bias"), "--json"}).out)["parameters"]);
}

TEST(LlamaCommands, TokenReductionIsRefused) {
  EXPECT_TRUE(
      is_refused(molt({"generate", kFile, "--prompt", "the", "--reduce", "utr:flops=0.2"}),
                 {"token reduction works on the states of state space models", "block 0 of this model is attention"}));
  const TempFolder folder;
  const std::string text = folder.write("text.txt", "the 123 and the");
  EXPECT_TRUE(is_refused(molt({"tune", kFile, "--text", text, "--flops", "0.2", "--out", folder / "s.json"}),
                         {"block 0 of this one is attention"}));
}

}  // namespace
}  // namespace molt
