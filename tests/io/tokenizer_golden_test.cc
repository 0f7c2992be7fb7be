// Ids and text of Hugging Face tokenizers 0.23, for the two tokenizers that molt is used with.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "molt/tokenizer.h"

namespace molt {
namespace {

using Json = nlohmann::json;

void expect_golden(const std::string& tokenizer_path, const std::string& golden_path) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_path);
  std::ifstream file(golden_path);
  ASSERT_TRUE(file) << golden_path;
  const Json golden = Json::parse(file);
  ASSERT_GE(golden.size(), 100u);
  for (const Json& entry : golden) {
    const auto text = entry["text"].get<std::string>();
    const auto ids = entry["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << entry["text"];
    EXPECT_EQ(tokenizer.decode(ids), entry["decoded"].get<std::string>()) << entry["text"];
  }
}

TEST(TokenizerGolden, Molt16k) {
  expect_golden(MOLT_SOURCE_DIR "/models/demo", MOLT_SOURCE_DIR "/tests/fixtures/tokens-molt16k.json");
}

TEST(TokenizerGolden, GptNeoX) {
  const std::string tokenizer = MOLT_SHARED_DIR "/tokenizer/20B_tokenizer.json";
  if (!std::filesystem::exists(tokenizer)) GTEST_SKIP() << tokenizer << " is not here";
  expect_golden(tokenizer, MOLT_SHARED_DIR "/golden/tokens-neox.json");
}

}  // namespace
}  // namespace molt
