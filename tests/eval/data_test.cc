#include "eval/data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "molt/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::TempFolder;

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class Data : public testing::Test {
 protected:
  TempFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::load(demo_model());

  Request encode(const std::string& context, const std::string& continuation, bool bos = false) const {
    return encode_request(tokenizer_, context, continuation, 0, bos);
  }
};

TEST_F(Data, ContextAndContinuationAreEncodedTogether) {
  const Request request = encode("The king went to the", " castle");
  std::vector<TokenId> joined = request.context;
  joined.insert(joined.end(), request.continuation.begin(), request.continuation.end());
  EXPECT_EQ(joined, tokenizer_.encode("The king went to the castle"));
  EXPECT_EQ(request.context, tokenizer_.encode("The king went to the"));
  EXPECT_FALSE(request.continuation.empty());
}

TEST_F(Data, SpaceAtTheContextsEndBelongsToTheContinuation) {
  for (const std::string space : {" ", "  ", "\n", " \t\n", "\u00A0", "\u3000 "}) {
    const Request moved = encode("The king" + space, "castle");
    const Request written = encode("The king", space + "castle");
    EXPECT_EQ(moved.context, written.context);
    EXPECT_EQ(moved.continuation, written.continuation);
    EXPECT_EQ(moved.context, tokenizer_.encode("The king"));
  }
}

TEST_F(Data, EmptyContextBecomesTheBeginOfText) {
  EXPECT_EQ(encode("", "castle").context, std::vector<TokenId>{0});
  EXPECT_EQ(encode(" ", "castle").context, std::vector<TokenId>{0});
  EXPECT_EQ(encode(" ", "castle").continuation, tokenizer_.encode(" castle"));
  EXPECT_EQ(encode("", "castle", true).context, std::vector<TokenId>{0});
}

TEST_F(Data, BeginOfTextOnlyOnRequest) {
  EXPECT_EQ(encode("The king", " went").context, tokenizer_.encode("The king"));
  const std::vector<TokenId> with = encode("The king", " went", true).context;
  EXPECT_EQ(with.front(), 0);
  EXPECT_EQ(std::vector<TokenId>(with.begin() + 1, with.end()), tokenizer_.encode("The king"));
  EXPECT_EQ(encode("The king", " went", true).continuation, encode("The king", " went").continuation);
}

TEST_F(Data, ContinuationMayComeOutEmpty) {
  EXPECT_TRUE(encode("The king", "").continuation.empty());
}

TEST_F(Data, JsonLinesKnowWhereTheyStand) {
  const std::string path = folder_.write("a.jsonl", "{\"a\":1}\n\n{\"a\":2}\r\n  \n{\"a\":3}");
  const auto lines = read_json_lines(path);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].where, path + ":1");
  EXPECT_EQ(lines[1].where, path + ":3");
  EXPECT_EQ(lines[2].where, path + ":5");
  EXPECT_EQ(lines[2].value["a"], 3);
}

TEST_F(Data, BrokenJsonLinesAreAllNamed) {
  const std::string path = folder_.write("a.jsonl", "{\"a\":1}\n{\"a\":\n[1]\n{\"a\":2}\n");
  const std::string error = error_of([&] { read_json_lines(path); });
  EXPECT_THAT(error, HasSubstr(path + ":2"));
  EXPECT_THAT(error, HasSubstr(path + ":3: must be a JSON object"));
  EXPECT_THAT(error, testing::Not(HasSubstr(path + ":4")));

  std::string many;
  for (int i = 0; i < 20; ++i) many += "oops\n";
  EXPECT_THAT(error_of([&] { read_json_lines(folder_.write("b.jsonl", many)); }), HasSubstr("and 15 more"));
  EXPECT_THAT(error_of([&] { read_json_lines(folder_.write("c.jsonl", "\n \n")); }), HasSubstr("no line"));
  EXPECT_THAT(error_of([&] { read_json_lines(folder_ / "absent.jsonl"); }), HasSubstr("absent.jsonl"));
}

TEST_F(Data, DocumentsAreSeparatedByTheEndOfText) {
  const std::string path = folder_.write("a.txt", "one\ntwo\n<|endoftext|><|endoftext|> \n<|endoftext|>three\n\nfour");
  const auto documents = read_documents(path);
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[0].text, "one\ntwo\n");
  EXPECT_EQ(documents[0].where, path + ":1");
  EXPECT_EQ(documents[1].text, "three\n\nfour");
  EXPECT_EQ(documents[1].where, path + ":4");
}

TEST_F(Data, WikiTextIsSeparatedByItsTitles) {
  const std::string path =
      folder_.write("w.txt", " \n = First = \n \n Text . \n = = Section = = \n More . \n = Second = \n Text . \n");
  const auto documents = read_documents(path);
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[0].text, " = First = \n \n Text . \n = = Section = = \n More . \n");
  EXPECT_EQ(documents[0].where, path + ":2");
  EXPECT_EQ(documents[1].where, path + ":7");
}

TEST_F(Data, TextWithoutSeparatorsIsOneDocument) {
  EXPECT_EQ(read_documents(folder_.write("a.txt", "all\nof it")).size(), 1U);
  EXPECT_THAT(error_of([&] { read_documents(folder_.write("b.txt", " \n<|endoftext|>\n")); }), HasSubstr("b.txt"));
}

TEST_F(Data, ExcerptsComeRoundByRoundAndAreDisjoint) {
  const std::string text = "red green blue red green blue red green blue red";  // ten words, a token each
  ASSERT_EQ(tokenizer_.encode(text).size(), 10U);
  const std::string paths[] = {folder_.write("a.txt", "red<|endoftext|>" + text), folder_.write("b.txt", text)};
  const Documents documents(paths, tokenizer_, 0);
  const std::vector<TokenId> ids = tokenizer_.encode(text);

  const auto all = documents.excerpts(5, 10, 100);
  ASSERT_EQ(all.size(), 4U);
  const std::int64_t expected_documents[] = {1, 2, 1, 2};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(all[i].document, expected_documents[i]);
    std::vector<TokenId> expected{0};
    const std::ptrdiff_t begin = i < 2 ? 0 : 4;
    expected.insert(expected.end(), ids.begin() + begin, ids.begin() + begin + 4);
    EXPECT_EQ(all[i].ids, expected);
  }
  EXPECT_EQ(documents.excerpts(5, 1, 100).size(), 2U);
  EXPECT_EQ(documents.excerpts(5, 10, 3).size(), 3U);
  EXPECT_EQ(documents.excerpts(11, 10, 100).size(), 2U);
  EXPECT_THAT(error_of([&] { documents.excerpts(12, 1, 1); }), HasSubstr("the longest of 3 has 11"));
}

TEST_F(Data, DocumentsThatAreNoTextAreNamed) {
  const std::string path = folder_.write("a.txt", "fine\n<|endoftext|>bro\xFFken");
  const std::string paths[] = {path};
  EXPECT_THAT(error_of([&] { Documents(paths, tokenizer_, 0); }), HasSubstr(path + ":2"));
  EXPECT_NE(error_of([&] { encode("bro\xFFken ", "x"); }), "");
}

}  // namespace
}  // namespace molt::eval
