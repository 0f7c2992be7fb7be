// A map tells of every token what became of it, whatever its text.
#include "report/token_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "io/tokenizer/utf8.h"
#include "report/colours.h"
#include "tests/support/markup.h"

namespace molt::report {
namespace {

using molt::testing_support::Element;
using molt::testing_support::read_markup;
using testing::HasSubstr;
using Kind = TokenFate::Kind;

std::vector<std::string> texts(const std::vector<MapToken>& tokens) {
  std::vector<std::string> texts;
  for (const MapToken& token : tokens) texts.push_back(token.goes_on ? "(goes on)" : token.text);
  return texts;
}

std::vector<MapToken> spell_all(const std::vector<std::string>& tokens) {
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  return spell(views);
}

TEST(Spell, ACharacterBelongsToTheTokenThatBeginsIt) {
  EXPECT_EQ(texts(spell_all({"a", "\xF0\x9F", "\x99", "\x82 b", ""})),
            (std::vector<std::string>{"a", "🙂", "(goes on)", " b", ""}));
  EXPECT_EQ(texts(spell_all({"x\xE2", "\x82\xAC\xE2\x82\xAC", "!"})), (std::vector<std::string>{"x€", "€", "!"}));
}

TEST(Spell, BytesThatAreNoTextShowAsSuch) {
  EXPECT_EQ(texts(spell_all({"\xFF", "a\x80", "\xE2\x82"})),
            (std::vector<std::string>{"\uFFFD", "a\uFFFD", "\uFFFD\uFFFD"}));
}

RC_GTEST_PROP(Spell, NothingIsLostOrInvented, (const std::vector<std::string>& tokens)) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += token;
  std::string shown;
  for (const MapToken& token : spell_all(tokens)) {
    RC_ASSERT(utf8::scan(token.text).valid == token.text.size());
    shown += token.text;
  }
  if (utf8::scan(bytes).valid == bytes.size()) RC_ASSERT(shown == bytes);
}

/// Six tokens: 0 and 3 run everything; 1 is pruned behind block 0, 2 merged into 3 and 0, 4 skips blocks 1 and 2, 5
/// only writes from block 2 on.
TokenMap small_map() {
  TokenMap map;
  map.tokens = spell_all({"<s>", " \"a\"", " &", "</script>", std::string(1, '\0'), "\n"});
  map.layers = 4;
  eval::PassageReading reading{"utr<", {}, 0};
  ReductionRecord& record = reading.record;
  record.tokens = 6;
  record.fates = {{1, 0, Kind::pruned, -1, -1, -1},
                  {4, 0, Kind::bypass, -1, -1, 3},
                  {2, 1, Kind::merged, 3, 0, -1},
                  {5, 1, Kind::write_only, -1, -1, -1}};
  record.sites = {0, 1};
  record.full = {6, 4, 2, 3};
  record.writing = {0, 0, 1, 1};
  record.flops = 60;
  record.dense_flops = 100;
  map.readings.push_back(reading);
  return map;
}

/// The elements of the tokens.
std::vector<Element> tokens_of(const std::string& html) {
  std::vector<Element> elements;
  EXPECT_TRUE(read_markup(html, &elements));
  std::vector<Element> tokens;
  bool inside = false;
  for (const Element& element : elements) {
    if (element.name == "p") inside = element.attributes.find("data-first") != std::string::npos;
    if (element.name == "i" && inside) tokens.push_back(element);
  }
  return tokens;
}

TEST(TokenMap, TellsWhatBecameOfEveryToken) {
  const std::string html = to_html(small_map());
  const std::vector<Element> tokens = tokens_of(html);
  ASSERT_EQ(tokens.size(), 6U);
  EXPECT_EQ(tokens[0].attributes, "");
  EXPECT_EQ(tokens[0].text, "&lt;s&gt;");
  EXPECT_EQ(tokens[1].attributes, " class=\"p l1\" title=\"1: pruned behind block 0\"");
  EXPECT_EQ(tokens[1].text, " &quot;a&quot;");
  EXPECT_EQ(tokens[2].attributes,
            " class=\"m l2\" data-h=\"3\" data-r=\"0\" "
            "title=\"2: merged behind block 1 (hidden branch into 3, residual into 0)\"");
  EXPECT_EQ(tokens[3].text, "&lt;/script&gt;");
  EXPECT_EQ(tokens[4].attributes, " class=\"b l1\" title=\"4: bypass behind block 0, back before block 3\"");
  EXPECT_EQ(tokens[4].text, "␀");
  EXPECT_EQ(tokens[5].attributes, " class=\"w l2\" title=\"5: write-only behind block 1\"");
  EXPECT_THAT(html, HasSubstr("utr&lt;"));
  EXPECT_THAT(html, HasSubstr("40.0% of the FLOPs cut. 2 of 6 tokens run every block, 4 do not."));
  EXPECT_THAT(html, HasSubstr("block 2: 2 tokens, 1 more only write"));
  EXPECT_THAT(html, HasSubstr("block 0: 6 tokens; 2 leave behind block 0"));
  EXPECT_THAT(html, HasSubstr("--f:33.3%;--w:16.7%"));
}

TEST(TokenMap, BeforeTheFirstBlockIsAPlaceToo) {
  TokenMap map = small_map();
  map.readings[0].record.fates = {{0, -1, Kind::pruned, -1, -1, -1}};
  const auto tokens = tokens_of(to_html(map));
  EXPECT_EQ(tokens[0].attributes, " class=\"p l0\" title=\"0: pruned before the first block\"");
}

TEST(TokenMap, ATokenThatLeavesAgainIsColouredByTheFirstTime) {
  TokenMap map = small_map();
  map.readings[0].record.fates = {{4, 0, Kind::bypass, -1, -1, 2}, {4, 2, Kind::pruned, -1, -1, -1}};
  EXPECT_EQ(tokens_of(to_html(map))[4].attributes,
            " class=\"b l1\" title=\"4: bypass behind block 0, back before block 2, then pruned behind block 2\"");
}

TEST(TokenMap, LongPassagesShowBothEnds) {
  TokenMap map;
  map.layers = 2;
  map.tokens.assign(5000, {"x", false, false});
  eval::PassageReading reading{"truncate", {}, 0};
  reading.record.tokens = 5000;
  for (std::int64_t i = 0; i < 3000; ++i) reading.record.fates.push_back({i, -1, Kind::pruned, -1, -1, -1});
  map.readings = {reading};
  const std::string html = to_html(map);
  EXPECT_EQ(tokens_of(html).size(), 4096U);
  EXPECT_THAT(html, HasSubstr("904 tokens in the middle are not shown"));
  EXPECT_THAT(html, HasSubstr("data-first=\"2952\""));
  EXPECT_THAT(html, HasSubstr("3000 leave before the first block"));
}

TEST(TokenMap, WithoutReadingsThereIsNone) {
  TokenMap map = small_map();
  map.readings.clear();
  EXPECT_EQ(to_html(map), "");
}

TEST(TokenMap, LayersHaveColoursOnWhichTextIsLegible) {
  const std::string css = layer_styles(16);
  EXPECT_THAT(css, HasSubstr(".l0{--bg:#440154;--fg:#fff}"));
  EXPECT_THAT(css, HasSubstr(".l16{--bg:#fde725;--fg:#000}"));
  const std::size_t dark = css.find("prefers-color-scheme: dark");
  ASSERT_NE(dark, std::string::npos);
  EXPECT_NE(css.find(".l0{--bg:#fde725;--fg:#000}", dark), std::string::npos);
}

TEST(Colours, AreThoseOfViridis) {
  EXPECT_EQ(css_of(viridis(0)), "#440154");
  EXPECT_EQ(css_of(viridis(0.5)), "#21918c");
  EXPECT_EQ(css_of(viridis(1)), "#fde725");
  EXPECT_EQ(css_of(viridis(-3)), css_of(viridis(0)));
  EXPECT_EQ(css_of(viridis(7)), css_of(viridis(1)));
}

}  // namespace
}  // namespace molt::report
