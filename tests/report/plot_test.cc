// Points stand where their values are, whatever these are.
#include "report/plot.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "tests/support/markup.h"

namespace molt::report {
namespace {

using molt::testing_support::read_markup;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The places of all points, in order.
std::vector<std::pair<double, double>> places(const std::string& svg) {
  std::vector<std::pair<double, double>> places;
  const std::regex group("translate\\(([-0-9.]+) ([-0-9.]+)\\)");
  for (std::sregex_iterator it(svg.begin(), svg.end(), group), end; it != end; ++it) {
    places.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  }
  return places;
}

/// The height of the dense model's line.
double dense_line(const std::string& svg) {
  std::smatch match;
  const std::regex line("class=\"dense\" x1=\"[-0-9.]+\" y1=\"([-0-9.]+)\"");
  return std::regex_search(svg, match, line) ? std::stod(match[1]) : kNan;
}

Plot plot(std::vector<Point> points) {
  Plot plot;
  plot.title = "nll <b>";
  plot.series = {{"utr", 0, std::move(points)}};
  return plot;
}

TEST(Plot, PointsStandAtTheirValues) {
  const std::string svg = to_svg(plot({{0, 0, kNan, "a"}, {0.2, 0.5, 0.1, "b"}, {0.4, 1, 0.2, "c & d"}}));
  ASSERT_TRUE(read_markup(svg));
  const auto at = places(svg);
  ASSERT_EQ(at.size(), 3U);
  EXPECT_NEAR(at[0].second, dense_line(svg), 0.11);
  EXPECT_NEAR(at[1].first - at[0].first, at[2].first - at[1].first, 0.11);
  EXPECT_NEAR(at[1].second - at[0].second, at[2].second - at[1].second, 0.11);
  EXPECT_GT(at[2].first, at[1].first);
  EXPECT_LT(at[2].second, at[1].second);  // upwards
  // An error of 0.1 is a tenth of the way from 0 to 1.
  EXPECT_THAT(svg, testing::HasSubstr(fmt::format("M-4 {:.1f}H4", (at[2].second - at[0].second) / 10)));
  EXPECT_THAT(svg, testing::HasSubstr("<title>c &amp; d</title>"));
  EXPECT_THAT(svg, testing::HasSubstr(">40%<"));
}

TEST(Plot, OnePointHasNoLineAndNoNumberNoPoint) {
  const std::string svg =
      to_svg(plot({{0.3, kNan, kNan, "lost"}, {0.3, -2, kNan, "kept"}, {0.3, INFINITY, 1, "lost"}}));
  EXPECT_EQ(places(svg).size(), 1U);
  EXPECT_EQ(svg.find("joins"), std::string::npos);
  EXPECT_EQ(svg.find("class=\"error\""), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(to_svg(plot({{0.3, kNan, kNan, ""}})), "");
  EXPECT_EQ(to_svg(plot({})), "");
}

RC_GTEST_PROP(Plot, EveryPointLiesInTheFrame, ()) {
  std::vector<Point> points;
  const double scale = std::pow(10.0, *rc::gen::inRange(-6, 7));
  for (const int value : *rc::gen::container<std::vector<int>>(rc::gen::inRange(-1000, 1000))) {
    points.push_back({*rc::gen::inRange(-5, 101) / 100.0, value * scale, std::abs(value) * scale / 10, "x"});
  }
  const std::size_t count = points.size();
  const std::string svg = to_svg(plot(std::move(points)));
  RC_ASSERT(places(svg).size() == count);
  for (const auto& [x, y] : places(svg)) {
    RC_ASSERT(x >= 0);
    RC_ASSERT(x <= 320);
    RC_ASSERT(y >= 0);
    RC_ASSERT(y <= 236);
  }
  RC_ASSERT(svg.size() < 4000 + 600 * count);  // ticks are few
}

TEST(Legend, SaysColourAndShape) {
  const std::string html = legend({{"a<", 0, {}}, {"b", 1, {}}});
  ASSERT_TRUE(read_markup(html));
  EXPECT_THAT(html, testing::HasSubstr("a&lt;"));
  EXPECT_THAT(html, testing::HasSubstr("class=\"s1\""));
  EXPECT_THAT(html, testing::HasSubstr("dense"));
}

}  // namespace
}  // namespace molt::report
