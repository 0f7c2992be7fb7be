// GGUF files on the command line: a file stands where a model's folder may stand.
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

const std::string kFile = fixture("gguf/falcon_mamba.gguf");

TEST(GgufCommands, InspectCountsTypes) {
  const auto json = molt({"inspect", kFile, "--json"});
  ASSERT_TRUE(succeeds(json));
  const auto description = nlohmann::json::parse(json.out);
  EXPECT_EQ(description["architecture"], "gguf");
  EXPECT_EQ(description["blocks"], (nlohmann::json{{"mamba", 2}}));
  EXPECT_EQ(description["stored"]["q8_0"]["tensors"], 8);
  EXPECT_EQ(description["stored"]["f32"]["tensors"], 15);
  EXPECT_FALSE(description["tied_embeddings"]);
  EXPECT_EQ(description["tokenizer"]["vocab_size"], 269);
  const auto table = molt({"inspect", kFile});
  ASSERT_TRUE(succeeds(table));
  EXPECT_NE(table.out.find("q8_0"), std::string::npos) << table;
}

TEST(GgufCommands, GenerateScoreAndTokenizeTakeAFile) {
  EXPECT_TRUE(succeeds(molt({"generate", kFile, "--prompt", "the 123 and", "--max-tokens", "8"})));
  EXPECT_TRUE(succeeds(molt({"score", kFile, "--context", "the", "--continuation", " and"})));
  const auto ids = molt({"tokenize", kFile, "--text", "the and"});
  ASSERT_TRUE(succeeds(ids));
  EXPECT_EQ(ids.out, "259 267\n");
}

TEST(GgufCommands, SayWhatIsWrong) {
  const TempFolder folder;
  const std::string content = testing_support::read_file(kFile);
  const std::string half = folder.write("half.gguf", content.substr(0, content.size() / 2));
  EXPECT_TRUE(is_refused(molt({"generate", half, "--prompt", "the"}), {"half.gguf: tensor `", "truncated or corrupt"}));
  EXPECT_TRUE(is_refused(molt({"generate", folder.path(), "--prompt", "the"}),
                         {"`half.gguf` is a GGUF file (llama.cpp), a whole model: name that file"}));
}

}  // namespace
}  // namespace molt
