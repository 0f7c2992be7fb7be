// Text becomes markup here and nowhere else.
#include "report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "io/tokenizer/utf8.h"
#include "tests/support/markup.h"

namespace molt::report {
namespace {

using molt::testing_support::Element;
using molt::testing_support::read_markup;

TEST(Escape, LeavesWhatIsHarmless) {
  EXPECT_EQ(escape("plain, naïve, 日本語, 🙂\n\ttext"), "plain, naïve, 日本語, 🙂\n\ttext");
  EXPECT_EQ(escape(""), "");
}

TEST(Escape, DisarmsMarkup) {
  EXPECT_EQ(escape("</script><b a='x' c=\"y\">&amp;"),
            "&lt;/script&gt;&lt;b a=&#39;x&#39; c=&quot;y&quot;&gt;&amp;amp;");
}

TEST(Escape, ShowsWhatAPageMustNotHold) {
  EXPECT_EQ(escape(std::string_view("a\0b\x1b\x7f\r", 6)), "a␀b␛␡␍");
  EXPECT_EQ(escape("\xC2\x85"), "[U+0085]");
  EXPECT_EQ(escape("\xE2\x80\xAEtxt"), "[U+202E]txt");  // right-to-left override
  EXPECT_EQ(escape("\xE2\x81\xA6x\xE2\x81\xA9"), "[U+2066]x[U+2069]");
  EXPECT_EQ(escape("\xEF\xBF\xBF"), "[U+FFFF]");
  EXPECT_EQ(escape("\xFF"
                   "a\xE2\x96"),
            "\uFFFDa\uFFFD");
}

RC_GTEST_PROP(Escape, AnyBytesBecomeText, (const std::string& bytes)) {
  const std::string text = escape(bytes);
  RC_ASSERT(utf8::scan(text).valid == text.size());
  RC_ASSERT(read_markup("<p title=\"" + text + "\">" + text + "</p>"));
}

TEST(Table, HeadsAndCells) {
  std::vector<Element> elements;
  const std::string html = table({{"", "a<b"}, {"row", "1"}, {"short"}}, "na\"me");
  ASSERT_TRUE(read_markup(html, &elements));
  std::string cells;
  for (const Element& element : elements) {
    if (element.name == "th" || element.name == "td")
      cells += element.name + element.attributes + "=" + element.text + ";";
  }
  EXPECT_EQ(cells, "td=;th scope=\"col\"=a&lt;b;th scope=\"row\"=row;td=1;th scope=\"row\"=short;td=;");
  EXPECT_THAT(html, testing::HasSubstr("aria-label=\"na&quot;me\""));
}

}  // namespace
}  // namespace molt::report
