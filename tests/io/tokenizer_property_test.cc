// What must hold for every text: round trips, streams, two ways of doing the same, and time that grows with the length.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <ctime>

#include "io/tokenizer/bpe.h"
#include "io/tokenizer/nfc.h"
#include "io/tokenizer/pattern.h"
#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"
#include "io/tokenizer/word_splitter.h"
#include "molt/tokenizer.h"

namespace molt {
namespace {

const Tokenizer& demo() {
  static const Tokenizer tokenizer = Tokenizer::load(MOLT_SOURCE_DIR "/models/demo");
  return tokenizer;
}

// Code points that meet the interesting rules often: ASCII, spaces, marks, Hangul, all planes.
rc::Gen<std::uint32_t> code_point() {
  const auto in = [](std::uint32_t first, std::uint32_t last) { return rc::gen::inRange(first, last + 1); };
  return rc::gen::weightedOneOf<std::uint32_t>(
      {{8, in(0x20, 0x7E)},
       {4,
        rc::gen::element<std::uint32_t>(' ', ' ', '\'', 's', 'l', 'r', 'e', '\n', '\r', '\t', '1', 0xA0, 0x3000, 0x85)},
       {2, in(0x00, 0x2FF)},
       {2, in(0x300, 0x36F)},
       {1, in(0x1100, 0x11FF)},
       {1, in(0xAC00, 0xD7A3)},
       {1, in(0x370, 0x2FFF)},
       {1, in(0xE000, 0xFFFF)},
       {1, in(0x10000, 0x1FFFF)},
       {1, in(0x20000, 0x10FFFF)}});
}

rc::Gen<std::string> utf8_text() {
  return rc::gen::map(rc::gen::container<std::vector<std::uint32_t>>(code_point()), [](const auto& codes) {
    std::string text;
    for (const std::uint32_t code : codes) utf8::append(code, text);
    return text;
  });
}

std::string nfc_of(const std::string& text) {
  std::string buffer;
  return std::string(nfc(text, buffer));
}

RC_GTEST_PROP(TokenizerProperty, DecodingGivesTheNormalizedText, ()) {
  const std::string text = *utf8_text();
  RC_ASSERT(demo().decode(demo().encode(text)) == nfc_of(text));
}

RC_GTEST_PROP(TokenizerProperty, SpecialTokensCutTheText, ()) {
  const std::string left = *utf8_text();
  const std::string right = *utf8_text();
  std::vector<TokenId> expected = demo().encode(left);
  expected.push_back(0);
  for (const TokenId id : demo().encode(right)) expected.push_back(id);
  RC_ASSERT(demo().encode(left + "<|endoftext|>" + right) == expected);
}

RC_GTEST_PROP(TokenizerProperty, StreamsGiveWholeCharactersAndTheSameText, ()) {
  const auto ids = *rc::gen::container<std::vector<TokenId>>(
      rc::gen::oneOf(rc::gen::inRange<TokenId>(0, 16384), rc::gen::inRange<TokenId>(2, 258)));
  const bool skip_special = *rc::gen::arbitrary<bool>();
  StreamDecoder stream(demo(), skip_special);
  std::string joined;
  for (const TokenId id : ids) {
    const std::string piece = stream.push(id);
    RC_ASSERT(utf8::scan(piece).valid == piece.size());
    joined += piece;
  }
  const std::string rest = stream.flush();
  RC_ASSERT(rest.empty() || rest == "\uFFFD");
  RC_ASSERT(joined + rest == demo().decode(ids, skip_special));
  RC_ASSERT(stream.flush().empty());
}

RC_GTEST_PROP(TokenizerProperty, NfcIsIdempotentAndUnchangedByDecomposing, ()) {
  const std::string text = nfc_of(*utf8_text());
  RC_ASSERT(nfc_of(text) == text);
  RC_ASSERT(utf8::scan(text).valid == text.size());
}

// PCRE2 as the oracle of the hand-written splitter. It knows Unicode 14.0, so newer characters are kept out.
RC_GTEST_PROP(TokenizerProperty, WordSplitterIsTheGpt2Pattern, ()) {
  std::string text;
  for (const std::uint32_t code : *rc::gen::container<std::vector<std::uint32_t>>(code_point())) {
    if (code < 0x10000 && !(code >= 0x1C89 && code <= 0x1C8A) && code < 0xA7C0) utf8::append(code, text);
  }
  static const Pattern pattern(SplitSpec{.pattern = std::string(kGpt2Pattern), .where = "test"});
  PatternSpace space;
  std::vector<Span> expected;
  pattern.split(text, space, expected);
  std::vector<Span> actual;
  for (std::size_t at = 0; at < text.size(); at = actual.back().end) actual.push_back({at, gpt2_word_end(text, at)});
  RC_ASSERT(actual == expected);
}

RC_GTEST_PROP(TokenizerProperty, ShortAndLongWordsMergeAlike, ()) {
  // Random merges over three letters, longer tokens made of earlier ones.
  const auto picks = *rc::gen::container<std::vector<std::pair<std::uint8_t, std::uint8_t>>>(
      rc::gen::arbitrary<std::pair<std::uint8_t, std::uint8_t>>());
  std::array<TokenId, 256> byte_ids{};
  byte_ids['a'] = 0;
  byte_ids['b'] = 1;
  byte_ids['c'] = 2;
  std::vector<Merge> merges;
  std::vector<std::string> tokens = {"a", "b", "c"};
  for (const auto& [left, right] : picks) {
    const auto l = left % tokens.size();
    const auto r = right % tokens.size();
    const std::string merged = tokens[l] + tokens[r];
    auto known = std::ranges::find(tokens, merged) - tokens.begin();
    if (known == static_cast<std::ptrdiff_t>(tokens.size())) tokens.push_back(merged);
    merges.push_back({static_cast<TokenId>(l), static_cast<TokenId>(r), static_cast<TokenId>(known)});
  }
  const Bpe bpe(byte_ids, merges);
  BpeCache cache;
  const auto word = *rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c')));
  std::vector<TokenId> plain, heap, cached;
  bpe.encode_short(word, cache, plain);
  bpe.encode_long(word, cache, heap);
  bpe.encode(word, cache, cached);
  RC_ASSERT(plain == heap);
  RC_ASSERT(plain == cached);
  cached.clear();
  bpe.encode(word, cache, cached);  // now from the cache
  RC_ASSERT(plain == cached);
}

TEST(Nfc, FollowsTheReference) {
  EXPECT_EQ(nfc_of("e\u0301"), "\u00E9");
  EXPECT_EQ(nfc_of("\u1100\u1161\u11A8"), "\uAC01");  // Hangul
  EXPECT_EQ(nfc_of("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(nfc_of("\u212B\uF900"), "\u00C5\u8C48");   // singletons
  EXPECT_EQ(nfc_of("\u0958"), "\u0915\u093C");         // excluded from composition
  EXPECT_EQ(nfc_of("a\u0301\u0323"), "\u1EA1\u0301");  // canonical order
  EXPECT_EQ(nfc_of("\u0301"), "\u0301");
  EXPECT_EQ(nfc_of("x\u0345\u0898\u0327"), "x\u0345\u0898\u0327");  // U+0898 is newer than the reference's tables
}

TEST(CharClasses, Samples) {
  const CharClass* classes = char_classes();
  EXPECT_EQ(classes['a'], CharClass::kLetter);
  EXPECT_EQ(classes[0x00AA], CharClass::kLetter);
  EXPECT_EQ(classes[0x00B2], CharClass::kNumber);
  EXPECT_EQ(classes[0x2163], CharClass::kNumber);
  EXPECT_EQ(classes[0x0085], CharClass::kSpace);
  EXPECT_EQ(classes[0x180E], CharClass::kOther);
  EXPECT_EQ(classes[0x200B], CharClass::kOther);
  EXPECT_EQ(classes[0x0301], CharClass::kOther);
  EXPECT_EQ(classes[0x10D4A], CharClass::kLetter);  // Unicode 16.0
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// 16 times the text must take nowhere near 256 times as long. Wide bounds: caches fill, and other programs run.
class Linearity : public testing::TestWithParam<const char*> {};

TEST_P(Linearity, LongTextsTakeTimeInProportion) {
  const std::string unit = GetParam();
  const auto seconds = [&](std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    double best = 1e9;
    for (int round = 0; round < 5; ++round) {
      const double start = cpu_seconds();
      const auto ids = demo().encode(text);
      best = std::min(best, cpu_seconds() - start);
      EXPECT_FALSE(ids.empty());
    }
    return best;
  };
  const double small = seconds(1 << 16);
  const double large = seconds(1 << 20);
  EXPECT_LT(large, 80 * std::max(small, 1e-4)) << small << " s, then " << large << " s";
}

INSTANTIATE_TEST_SUITE_P(Texts, Linearity,
                         testing::Values("a", " ", "ab", "\u0301", "\u0301\u0323", "e\u0301", "\uAC00\u11A8", "'",
                                         "\n ", "<|endoftext|", "<", "word ", "\u00E9", "1"));

}  // namespace
}  // namespace molt
