// Plot: points with error bars, as inline SVG that takes its colours from the page and shows a point's text on hover.
//
// Pure functions. Every series has a colour and a shape: nothing is told by colour alone.
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace molt::report {

struct Point {
  double x;
  double y;
  double error = std::numeric_limits<double>::quiet_NaN();  // drawn both ways; none where it is no number
  std::string text;                                         // what it says
};

struct Series {
  std::string name;
  std::size_t style;          // 0, 1, ...: which colour and shape
  std::vector<Point> points;  // joined in this order
};

struct Plot {
  std::string title;
  std::string x_label;  // x is a share, shown in percent
  std::string y_label;
  double baseline = 0;        // of the dense model: a line across
  bool falls_with_x = false;  // draw baseline * (1 - x), too: what would be if all followed the FLOPs
  bool signed_y = true;
  std::vector<Series> series;
};

/// A figure. Points that are no numbers are left out; without any there is no figure: "".
std::string to_svg(const Plot& plot);

/// What colour and shape each series has.
std::string legend(const std::vector<Series>& series);

}  // namespace molt::report
