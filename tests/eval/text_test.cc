// Expected values are what Python 3.11 gives for the expressions that text.h names.
#include "eval/text.h"

#include <gtest/gtest.h>

namespace molt::eval {
namespace {

TEST(Text, Strip) {
  EXPECT_EQ(strip("  a b\t\n"), "a b");
  EXPECT_EQ(strip("\u00A0\u3000x\u2028\x1C"), "x");
  EXPECT_EQ(strip(" \n\t "), "");
  EXPECT_EQ(strip(""), "");
  EXPECT_EQ(strip("\u200Bx"), "\u200Bx");  // the zero width space is none
  EXPECT_EQ(leading_space(" \u3000x "), 4U);
  EXPECT_EQ(trailing_space(" x \u3000"), 4U);
}

TEST(Text, CountsCharactersNotBytes) {
  EXPECT_EQ(count_characters(""), 0);
  EXPECT_EQ(count_characters("na\u00EFve \U0001F600"), 7);
  EXPECT_EQ(count_characters("e\u0301"), 2);
}

TEST(Text, CountsWordsAsSplitDoes) {
  EXPECT_EQ(count_words(""), 1);
  EXPECT_EQ(count_words("one two"), 2);
  EXPECT_EQ(count_words(" \n = A = \n"), 5);  // with an empty one at each end
  EXPECT_EQ(count_words("a \u00A0\t b"), 2);
}

TEST(Text, ReplacesFromLeftToRight) {
  const auto replaced = [](std::string text, const char* from, const char* to) {
    replace_all(text, from, to);
    return text;
  };
  EXPECT_EQ(replaced("a   b    c", "  ", " "), "a  b  c");
  EXPECT_EQ(replaced("= = = = =", "= =", "=="), "== == =");
  EXPECT_EQ(replaced("aaa", "aa", "a"), "aa");
  EXPECT_EQ(replaced("abc", "x", "y"), "abc");
}

TEST(Text, CapitalizeLowersTheRest) {
  EXPECT_EQ(capitalize("the Lady WALKS"), "The lady walks");
  EXPECT_EQ(capitalize("\u00E9T\u00C9"), "\u00C9t\u00E9");
  EXPECT_EQ(capitalize("\u01C6A"), "\u01C5a");  // dz with caron: title case is neither upper nor lower
  EXPECT_EQ(capitalize(" the LADY"), " the lady");
  EXPECT_EQ(capitalize(""), "");
}

}  // namespace
}  // namespace molt::eval
