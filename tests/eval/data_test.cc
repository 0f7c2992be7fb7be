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

/// All lines of a file, and what is wrong with others.
std::vector<JsonLine> lines_of(const std::string& path, Problems& problems) {
  std::vector<JsonLine> lines;
  read_json_lines(path, problems, [&](const JsonLine& line) {
    lines.push_back(line);
    return true;
  });
  return lines;
}

TEST_F(Data, JsonLinesKnowWhereTheyStand) {
  const std::string path = folder_.write("a.jsonl", "{\"a\":1}\n\n{\"a\":2}\r\n  \n{\"a\":3}");
  Problems problems;
  const auto lines = lines_of(path, problems);
  EXPECT_EQ(problems.count(), 0U);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].where, path + ":1");
  EXPECT_EQ(lines[1].where, path + ":3");
  EXPECT_EQ(lines[1].index, 1U);
  EXPECT_EQ(lines[2].where, path + ":5");
  EXPECT_EQ(lines[2].value["a"], 3);
}

TEST_F(Data, BrokenJsonLinesAreNamedAndTheOthersRead) {
  const std::string path = folder_.write("a.jsonl", "{\"a\":1}\n{\"a\":\n[1]\n{\"a\":2}\n");
  Problems problems;
  const auto lines = lines_of(path, problems);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1].value["a"], 2);
  EXPECT_EQ(lines[1].index, 3U);  // broken lines count: a file of labels has one for them, too
  EXPECT_EQ(problems.count(), 2U);
  EXPECT_THAT(problems.text(), HasSubstr(path + ":2"));
  EXPECT_THAT(problems.text(), HasSubstr(path + ":3: must be a JSON object"));
  EXPECT_THAT(problems.text(), testing::Not(HasSubstr(path + ":4")));
  EXPECT_THAT(problems.text("> "), testing::StartsWith("> " + path));

  std::string many;
  for (int i = 0; i < 20; ++i) many += "oops\n";
  Problems of_many;
  EXPECT_TRUE(lines_of(folder_.write("b.jsonl", many), of_many).empty());
  EXPECT_EQ(of_many.count(), 20U);
  EXPECT_THAT(of_many.text(), HasSubstr("and 15 more"));
  EXPECT_THAT(error_of([&] { lines_of(folder_ / "absent.jsonl", of_many); }), HasSubstr("absent.jsonl"));
}

TEST_F(Data, LinesThatAreRefusedAreProblemsToo) {
  const std::string path = folder_.write("a.jsonl", "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n");
  Problems problems;
  std::vector<int> taken;
  read_json_lines(path, problems, [&](const JsonLine& line) {
    if (line.value["a"] == 2) throw Error("two is refused");
    taken.push_back(line.value["a"].get<int>());
    return taken.size() < 2;
  });
  EXPECT_EQ(taken, (std::vector<int>{1, 3}));  // and 4 was no longer wanted
  EXPECT_EQ(problems.text(), "two is refused");
}

TEST_F(Data, LongRequestsLoseTheirBeginnings) {
  Request request{{1, 2, 3, 4}, {5, 6}};
  EXPECT_FALSE(fit(request, 5));  // six tokens, of which the last is never read
  EXPECT_EQ(request.context.size(), 4U);
  EXPECT_TRUE(fit(request, 3));
  EXPECT_EQ(request.context, (std::vector<TokenId>{3, 4}));
  EXPECT_EQ(request.continuation, (std::vector<TokenId>{5, 6}));
  EXPECT_TRUE(fit(request, 2));
  EXPECT_EQ(request.context, (std::vector<TokenId>{4}));
  EXPECT_THAT(error_of([&] { fit(request, 1); }), HasSubstr("has 2 tokens, more than the 1"));
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
