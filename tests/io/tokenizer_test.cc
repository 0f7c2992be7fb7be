// What tokenizer.json can ask for, one feature at a time, on small tokenizers.
#include "molt/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "molt/error.h"
#include "tests/io/tokenizer_fixture.h"

namespace molt {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::small_tokenizer_json;
using testing_support::tokenizer_from;

using Ids = std::vector<TokenId>;

Ids bytes_of(std::string_view text) {
  Ids ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

Json added_token(int id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"special", false},    {"normalized", false},
          {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
}

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Tokenizer, MergesLowestRankFirstThenLeftmost) {
  // ids: bc 256, ab 257, aa 258, abc 259 (from ab + c, never reached from "abc" because bc merges first)
  const auto tokenizer = tokenizer_from(small_tokenizer_json({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"ab", "c"}}));
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre('a', 256));
  EXPECT_THAT(tokenizer.encode("aab"), ElementsAre('a', 257));
  EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(258, 'a'));
  EXPECT_THAT(tokenizer.encode(""), ElementsAre());
  EXPECT_EQ(tokenizer.vocab_size(), 260);
}

TEST(Tokenizer, OfTwoMergesOfAPairTheLaterCounts) {
  const auto tokenizer = tokenizer_from(small_tokenizer_json({{"a", "b"}, {"b", "c"}, {"a", "b"}}));
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre('a', 257));
}

TEST(Tokenizer, MergesMayBeStrings) {
  Json json = small_tokenizer_json({{"a", "b"}});
  json["model"]["merges"] = {"a b"};
  EXPECT_THAT(tokenizer_from(json).encode("abab"), ElementsAre(256, 256));
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  Json json = small_tokenizer_json({{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  EXPECT_THAT(tokenizer_from(json).encode("abc"), ElementsAre('a', 256));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(tokenizer_from(json).encode("abc"), ElementsAre(258));
}

TEST(Tokenizer, NfcOrNot) {
  Json json = small_tokenizer_json();
  EXPECT_EQ(tokenizer_from(json).encode("e\u0301"), bytes_of("e\u0301"));
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(tokenizer_from(json).encode("e\u0301"), bytes_of("\u00E9"));
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({{{"type", "NFC"}}})}};
  EXPECT_EQ(tokenizer_from(json).encode("e\u0301"), bytes_of("\u00E9"));
}

TEST(Tokenizer, PrefixSpaceForEachStretchOfText) {
  Json json = small_tokenizer_json();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  json["added_tokens"] = {added_token(256, "<x>")};
  const auto tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("a"), bytes_of(" a"));
  EXPECT_EQ(tokenizer.encode(" a"), bytes_of(" a"));
  EXPECT_THAT(tokenizer.encode("a<x>b"), ElementsAre(' ', 'a', 256, ' ', 'b'));
}

TEST(Tokenizer, ByteLevelWithoutItsPatternMergesAcrossWords) {
  Json json = small_tokenizer_json({{"a", " "}});
  EXPECT_THAT(tokenizer_from(json).encode("a a"), ElementsAre('a', ' ', 'a'));
  json["pre_tokenizer"]["use_regex"] = false;
  EXPECT_THAT(tokenizer_from(json).encode("a a"), ElementsAre(256, 'a'));
}

// The pieces show in what merges: "aa" is one id only where no cut falls between.
TEST(Tokenizer, SplitBehaviors) {
  Json json = small_tokenizer_json({{"a", "-"}, {"-", "a"}, {"-", "-"}, {"a", "a"}});  // a- 256, -a 257, -- 258
  const auto with = [&](const std::string& behavior, bool invert) {
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return tokenizer_from(json).encode("a--a");
  };
  EXPECT_THAT(with("Isolated", false), ElementsAre('a', '-', '-', 'a'));
  EXPECT_THAT(with("Removed", false), ElementsAre('a', 'a'));
  EXPECT_THAT(with("MergedWithPrevious", false), ElementsAre(256, '-', 'a'));
  EXPECT_THAT(with("MergedWithNext", false), ElementsAre('a', '-', 257));
  EXPECT_THAT(with("Contiguous", false), ElementsAre('a', 258, 'a'));
  EXPECT_THAT(with("Removed", true), ElementsAre('-', '-'));
}

// Numerals of any script and kind are digits, as Rust's char::is_numeric has it.
TEST(Tokenizer, DigitsEachByThemselvesOrInRuns) {
  Json json = small_tokenizer_json({{"1", "2"}, {"a", "1"}, {"a", "a"}});  // 12 256, a1 257, aa 258
  const auto with = [&](bool individual, const std::string& text) {
    json["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Digits"}, {"individual_digits", individual}},
                               {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return tokenizer_from(json).encode(text);
  };
  EXPECT_THAT(with(true, "aa12a1"), ElementsAre(258, '1', '2', 'a', '1'));
  EXPECT_THAT(with(false, "aa12a1"), ElementsAre(258, 256, 'a', '1'));
  EXPECT_EQ(with(true, "\u00bd\u0663"), bytes_of("\u00bd\u0663"));
}

// As Hugging Face tokenizers do without an unk_token: what stood beside it in a word may merge.
TEST(Tokenizer, LeavesOutRareBytesThatHaveNoToken) {
  Json json = small_tokenizer_json({{"!", "!"}});
  for (const char* spelled : {"\u0104", "\u00f1"}) json["model"]["vocab"].erase(spelled);  // of 0x04 and 0xF1
  const auto tokenizer = tokenizer_from(json);
  EXPECT_THAT(tokenizer.encode("!\x04!"), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("\x04"), ElementsAre());
  EXPECT_THAT(tokenizer.encode("\xf1\x80\x80\x80"), ElementsAre(0x80, 0x80, 0x80));
  EXPECT_THAT(tokenizer.encode("\x05!!"), ElementsAre(5, 256));
  json["model"]["unk_token"] = "?";
  EXPECT_THAT(tokenizer_from(json).encode("!\x04\x04!"), ElementsAre('!', '?', '?', '!'));
  json["model"]["fuse_unk"] = true;
  EXPECT_THAT(message_of([&] { tokenizer_from(json); }), HasSubstr("is fused"));
}

TEST(Tokenizer, AddedTokensAreLeftmostLongest) {
  Json json = small_tokenizer_json({{"b", "c"}});
  json["added_tokens"] = {added_token(257, "ab"), added_token(258, "abcd"), added_token(259, "cde")};
  const auto tokenizer = tokenizer_from(json);
  EXPECT_THAT(tokenizer.encode("abcde"), ElementsAre(258, 'e'));
  EXPECT_THAT(tokenizer.encode("abcxcde"), ElementsAre(257, 'c', 'x', 259));
  EXPECT_THAT(tokenizer.encode("bcd"), ElementsAre(256, 'd'));
}

TEST(Tokenizer, AddedTokensStripAndStandAlone) {
  Json json = small_tokenizer_json();
  json["added_tokens"] = {added_token(256, "<l>"), added_token(257, "<r>"), added_token(258, "<w>")};
  json["added_tokens"][0]["lstrip"] = true;
  json["added_tokens"][1]["rstrip"] = true;
  json["added_tokens"][2]["single_word"] = true;
  const auto tokenizer = tokenizer_from(json);
  EXPECT_THAT(tokenizer.encode("a \t\u3000<l> b"), ElementsAre('a', 256, ' ', 'b'));
  EXPECT_THAT(tokenizer.encode("a <r> \nb"), ElementsAre('a', ' ', 257, 'b'));
  EXPECT_THAT(tokenizer.encode("<r> <l>"), ElementsAre(257, 256));
  EXPECT_THAT(tokenizer.encode("<r>  \t b"), ElementsAre(257, 'b'));
  EXPECT_THAT(tokenizer.encode("<w>,<w>"), ElementsAre(258, ',', 258));
  EXPECT_EQ(tokenizer.encode("\u00E9<w>"), bytes_of("\u00E9<w>"));
  EXPECT_EQ(tokenizer.encode("<w>1"), bytes_of("<w>1"));
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundAfterNormalization) {
  Json json = small_tokenizer_json();
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"] = {added_token(256, "\u1E63"), added_token(257, "o\u0306")};
  EXPECT_EQ(tokenizer_from(json).encode("s\u0323"), bytes_of("\u1E63"));  // not there in the text as given
  EXPECT_THAT(tokenizer_from(json).encode("\u1E63"), ElementsAre(256));
  for (Json& token : json["added_tokens"]) token["normalized"] = true;
  EXPECT_THAT(tokenizer_from(json).encode("s\u0323o\u0306"), ElementsAre(256, 257));
  EXPECT_EQ(tokenizer_from(json).decode(Ids{257}), "\u014F");
}

TEST(Tokenizer, DecodesByteTokensTextTokensAndIllFormedBytes) {
  Json json = small_tokenizer_json();
  json["added_tokens"] = {added_token(256, "two  spaces"), added_token(257, "<s>")};
  json["added_tokens"][1]["special"] = true;
  const auto tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.decode(Ids{'a', 256, 257, 'b'}), "atwo  spaces<s>b");
  EXPECT_EQ(tokenizer.decode(Ids{'a', 256, 257, 'b'}, true), "atwo  spacesb");
  // One U+FFFD for each maximal ill-formed part (Unicode 15, table 3-8).
  EXPECT_EQ(tokenizer.decode(Ids{0x61, 0xF1, 0x80, 0x80, 0xE1, 0x80, 0xC2, 0x62, 0x80, 0x63, 0x80, 0xBF, 0x64}),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(tokenizer.decode(Ids{0xED, 0xA0, 0x80, 0xF4, 0x90}), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer.token_bytes(0xF1), "\xF1");
  EXPECT_THAT(tokenizer.special_ids(), ElementsAre(257));
  EXPECT_TRUE(tokenizer.is_special(257));
  EXPECT_FALSE(tokenizer.is_special(256));
  EXPECT_EQ(tokenizer.id_of("<s>"), 257);
  EXPECT_EQ(tokenizer.id_of("\u0120"), ' ');  // as the file spells it
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
}

TEST(Tokenizer, RefusesIdsThatNameNoToken) {
  Json json = small_tokenizer_json();
  json["added_tokens"] = {added_token(300, "<x>")};
  const auto tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  for (const TokenId id : {-1, 256, 299, 301, INT32_MAX, INT32_MIN}) {
    EXPECT_THAT(message_of([&] { tokenizer.decode(Ids{id}); }), HasSubstr(std::to_string(id)));
    StreamDecoder stream(tokenizer);
    EXPECT_EQ(stream.push(0xC3), "");
    EXPECT_THROW(stream.push(id), Error);
    EXPECT_EQ(stream.push(0xA9), "\u00E9");  // as if the bad id had not been
  }
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = tokenizer_from(small_tokenizer_json());
  for (const std::string bad :
       {"\x80", "\xC0\xAF", "\xE2\x82", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xF4\x90\x80\x80"}) {
    const std::string message = message_of([&] { tokenizer.encode("abcdefgh\u00E9" + bad); });
    EXPECT_THAT(message, HasSubstr("offset 10")) << message;
  }
}

TEST(Tokenizer, SplitRefusesWhatPcre2ReadsOtherwise) {
  const auto with = [](const std::string& pattern) {
    Json json = small_tokenizer_json();
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}}, {{"type", "ByteLevel"}}}}};
    return message_of([&] { tokenizer_from(json); });
  };
  EXPECT_EQ(with(R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+)"),
            "no error");
  for (const std::string bad : {R"(\w+)", R"(\bx)", "[a[b]]", "[a&&b]", "(?m:a)", "a{,3}", "a{2}+", "a(?i)b", "(*F)",
                                R"(\h)", R"(\xC3)", "[]a]", "[a", "(a", "a\\", "", R"(\p{Nonsense})", R"(\pL)"}) {
    EXPECT_THAT(with(bad), HasSubstr("test.json.pre_tokenizer.pretokenizers[0]")) << bad;
  }
}

TEST(Tokenizer, SplitGivesUpOnRunawayPatterns) {
  Json json = small_tokenizer_json();
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(?:a|a)+(?:a|a)+b"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
  const auto tokenizer = tokenizer_from(json);
  EXPECT_THAT(message_of([&] { tokenizer.encode(std::string(40, 'a') + "cb"); }), HasSubstr("(?:a|a)+(?:a|a)+b"));
  EXPECT_EQ(tokenizer.encode("aab").size(), 3u);  // and works on
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto tokenizer = Tokenizer::load(MOLT_SOURCE_DIR "/models/demo");
  const std::string text = "The quick brown fox, 1234 times; naïve cafés and\n\n 日本語 <|endoftext|> too.";
  const Ids expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4);
  for (auto& count : equal) {
    threads.emplace_back([&, copy = tokenizer] {
      for (int round = 0; round < 200; ++round) count += copy.encode(text) == expected && copy.decode(expected) == text;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(equal, testing::Each(200));
}

TEST(Tokenizer, LoadNamesWhatIsMissing) {
  EXPECT_THAT(message_of([] { Tokenizer::load("/nowhere/tokenizer.json"); }), HasSubstr("/nowhere/tokenizer.json"));
  EXPECT_THAT(message_of([] { Tokenizer::load(std::filesystem::temp_directory_path().string()); }),
              HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace molt
