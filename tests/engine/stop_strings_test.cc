// StopStrings: whatever the pieces, the stream ends where a plain search of the whole text says.
#include "engine/stop_strings.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace molt {
namespace {

struct Streamed {
  std::string text;
  bool found;

  friend bool operator==(const Streamed&, const Streamed&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Streamed& s) {
    return out << s.text << (s.found ? "|" : "");
  }
};

Streamed stream(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings filter(stops);
  std::string text;
  for (const std::string& piece : pieces) text += filter.push(piece);
  text += filter.flush();
  return {text, filter.found()};
}

/// By definition: the text up to the first place where a stop string is complete, without the longest such string.
Streamed search(const std::vector<std::string>& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

TEST(StopStrings, EndTheTextBeforeThem) {
  EXPECT_EQ(stream({"END"}, {"one END two"}), (Streamed{"one ", true}));
  EXPECT_EQ(stream({"END"}, {"one E", "N", "D two"}), (Streamed{"one ", true}));
  EXPECT_EQ(stream({"END"}, {"one E", "N"}), (Streamed{"one EN", false}));
  EXPECT_EQ(stream({"aab"}, {"a", "a", "a", "b"}), (Streamed{"a", true}));
}

TEST(StopStrings, TheOneThatIsCompleteFirstCounts) {
  EXPECT_EQ(stream({"abcd", "c"}, {"abcd"}), (Streamed{"ab", true}));
  EXPECT_EQ(stream({"abcd", "c"}, {"ab", "c", "d"}), (Streamed{"ab", true}));
  EXPECT_EQ(stream({"c", "bc"}, {"abc"}), (Streamed{"a", true}));
  EXPECT_EQ(stream({"bc", "c"}, {"ab", "c"}), (Streamed{"a", true}));
}

TEST(StopStrings, EmptyOnesStopNothing) {
  EXPECT_EQ(stream({""}, {"abc"}), (Streamed{"abc", false}));
  EXPECT_EQ(stream({}, {"abc", "d"}), (Streamed{"abcd", false}));
}

TEST(StopStrings, TextIsHeldBackOnlyWhileItMayBeginAStop) {
  StopStrings filter({"</s>"});
  EXPECT_EQ(filter.push("a < b <"), "a < b ");
  EXPECT_EQ(filter.push("/"), "");
  EXPECT_EQ(filter.push("p>"), "</p>");
  EXPECT_EQ(filter.push("</s>after"), "");
  EXPECT_TRUE(filter.found());
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.flush(), "");
}

TEST(StopStrings, AgreeWithASearchOfTheWholeText) {
  // Three letters only, so that stop strings do occur, overlap and fail half-way.
  const auto letters = [](int longest) {
    return rc::gen::resize(longest, rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c')));
  };
  EXPECT_TRUE(rc::check([&] {
    const auto stops = *rc::gen::resize(4, rc::gen::container<std::vector<std::string>>(letters(5)));
    const auto pieces = *rc::gen::resize(20, rc::gen::container<std::vector<std::string>>(letters(4)));
    std::string whole;
    for (const std::string& piece : pieces) whole += piece;
    const Streamed expected = search(stops, whole);
    RC_TAG(std::string(expected.found ? "found" : "not found"));
    RC_ASSERT(stream(stops, pieces) == expected);
  }));
}

}  // namespace
}  // namespace molt
