// Broken and unsupported tokenizer.json files: each is refused with an Error that names the place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "molt/error.h"
#include "tests/io/tokenizer_fixture.h"

namespace molt {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing_support::small_tokenizer_json;

struct BadFile {
  const char* name;
  std::function<void(Json&)> change;
  const char* place;  // what the message must name
};
void PrintTo(const BadFile& file, std::ostream* out) {
  *out << file.name;
}

class BadTokenizer : public testing::TestWithParam<BadFile> {};

TEST_P(BadTokenizer, IsRefusedByName) {
  Json json = small_tokenizer_json({{"a", "b"}});
  ASSERT_NO_THROW(testing_support::tokenizer_from(json));
  GetParam().change(json);
  try {
    testing_support::tokenizer_from(json);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("test.json"));
    EXPECT_THAT(error.what(), HasSubstr(GetParam().place));
  }
}

Json component(const char* type) {
  return {{"type", type}};
}

Json token(std::int64_t id, const char* content) {
  return {{"id", id}, {"content", content}};
}

const BadFile kBadFiles[] = {
    {"NoObject", [](Json& j) { j = Json::array(); }, "object"},
    {"NoModel", [](Json& j) { j.erase("model"); }, "\"model\""},
    {"ModelIsText", [](Json& j) { j["model"] = "BPE"; }, ".model"},
    {"OtherModel", [](Json& j) { j["model"]["type"] = "Unigram"; }, "Unigram"},
    {"NoVocab", [](Json& j) { j["model"].erase("vocab"); }, "\"vocab\""},
    {"VocabIsList", [](Json& j) { j["model"]["vocab"] = Json::array(); }, ".model.vocab"},
    {"IdIsText", [](Json& j) { j["model"]["vocab"]["ab"] = "7"; }, "vocab[\"ab\"]"},
    {"IdIsNegative", [](Json& j) { j["model"]["vocab"]["ab"] = -1; }, "-1"},
    {"IdIsFraction", [](Json& j) { j["model"]["vocab"]["ab"] = 1.5; }, "vocab[\"ab\"]"},
    {"IdIsHuge", [](Json& j) { j["model"]["vocab"]["ab"] = 4000000000000ll; }, "4000000000000"},
    {"TwoTokensOneId", [](Json& j) { j["model"]["vocab"]["ab"] = 3; }, "same id 3"},
    {"ByteWithoutToken", [](Json& j) { j["model"]["vocab"].erase("A"); }, "0x41"},
    {"NoMerges", [](Json& j) { j["model"].erase("merges"); }, "\"merges\""},
    {"MergeOfOne", [](Json& j) { j["model"]["merges"] = {"ab"}; }, "merges[0]"},
    {"MergeOfThree",
     [](Json& j) {
       j["model"]["merges"] = {"a b", "a b c"};
     },
     "merges[1]"},
    {"MergeOfNumbers",
     [](Json& j) {
       j["model"]["merges"] = {{1, 2}};
     },
     "merges[0]"},
    {"MergeOfUnknown", [](Json& j) { j["model"]["merges"] = {"a xyz"}; }, "\"xyz\""},
    {"MergeToUnknown",
     [](Json& j) {
       j["model"]["merges"] = {"a b", "a c"};
     },
     "merges[1]"},
    {"Dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout"},
    {"Prefix", [](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; }, "continuing_subword_prefix"},
    {"Suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
    {"ByteFallback", [](Json& j) { j["model"]["byte_fallback"] = true; }, "byte_fallback"},
    {"FlagIsNumber", [](Json& j) { j["model"]["ignore_merges"] = 1; }, "ignore_merges"},
    {"OtherNormalizer", [](Json& j) { j["normalizer"] = component("NFKC"); }, "NFKC"},
    {"NormalizerWithoutType", [](Json& j) { j["normalizer"] = Json::object(); }, ".normalizer"},
    {"NormalizerInSequence",
     [](Json& j) {
       j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {component("NFC"), component("Strip")}}};
     },
     "normalizers[1]"},
    {"NoPreTokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }, "pre_tokenizer"},
    {"OtherPreTokenizer", [](Json& j) { j["pre_tokenizer"] = component("Metaspace"); }, "Metaspace"},
    {"NothingAfterByteLevel",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {component("ByteLevel"), component("Digits")}}};
     },
     "Digits"},
    {"EmptySequence",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array()}};
     },
     "ByteLevel"},
    {"EndlessSequence",
     [](Json& j) {
       for (int i = 0; i < 20; ++i) j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {Json(j["normalizer"])}}};
     },
     "nested"},
    {"SplitBehavior",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Vanished"}};
     },
     "Vanished"},
    {"NoDecoder", [](Json& j) { j["decoder"] = nullptr; }, "decoder"},
    {"OtherDecoder", [](Json& j) { j["decoder"] = component("WordPiece"); }, "WordPiece"},
    {"OtherPostProcessor", [](Json& j) { j["post_processor"] = component("BertProcessing"); }, "BertProcessing"},
    {"TemplateWithoutText",
     [](Json& j) {
       j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", Json::array()}};
     },
     ".single"},
    {"AddedIsObject", [](Json& j) { j["added_tokens"] = Json::object(); }, "added_tokens"},
    {"AddedWithoutId",
     [](Json& j) {
       j["added_tokens"] = {{{"content", "x"}}};
     },
     "added_tokens[0]"},
    {"AddedEmpty", [](Json& j) { j["added_tokens"] = {token(300, "")}; }, "added_tokens[0]"},
    {"AddedHugeId", [](Json& j) { j["added_tokens"] = {token(1ll << 40, "x y")}; }, "added_tokens[0].id"},
    {"AddedTakesAnId", [](Json& j) { j["added_tokens"] = {token(65, "<x>")}; }, "same id 65"},
    {"AddedContradicts", [](Json& j) { j["added_tokens"] = {token(300, "ab")}; }, "\"ab\""},
    {"AddedTwice",
     [](Json& j) {
       j["added_tokens"] = {token(300, "<x>"), token(300, "<x>")};
     },
     "twice"},
};

INSTANTIATE_TEST_SUITE_P(Files, BadTokenizer, testing::ValuesIn(kBadFiles),
                         [](const auto& file) { return std::string(file.param.name); });

TEST(TokenizerSpec, TruncatedFilesAreRefused) {
  const std::string text = small_tokenizer_json({{"a", "b"}}).dump();
  for (std::size_t length = 0; length < text.size(); length += 1 + length / 50) {
    EXPECT_THROW(Tokenizer::parse(text.substr(0, length), "test.json"), Error) << length;
  }
}

TEST(TokenizerSpec, WhatAddsOnlySpecialTokensIsAccepted) {
  Json json = small_tokenizer_json();
  json["model"].erase("type");
  json["model"]["unk_token"] = "a";  // never needed: every byte has a token
  json["model"]["dropout"] = 0.0;
  json["model"]["end_of_word_suffix"] = "";
  json["truncation"] = {{"max_length", 3}};
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors",
                             {component("ByteLevel"),
                              {{"type", "TemplateProcessing"},
                               {"single", {{{"SpecialToken", {{"id", "a"}}}}, {{"Sequence", {{"id", "A"}}}}}}}}}};
  EXPECT_EQ(testing_support::tokenizer_from(json).encode("hello").size(), 5u);
}

}  // namespace
}  // namespace molt
