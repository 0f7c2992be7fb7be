#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/html.h"

namespace molt::report {
namespace {

// In units of the drawing, which a page scales to the width that it has.
constexpr double kWidth = 320;
constexpr double kHeight = 236;
constexpr double kLeft = 50;
constexpr double kRight = 14;
constexpr double kTop = 12;
constexpr double kBottom = 42;

constexpr std::size_t kColours = 7;  // in the style: --s0 ...
constexpr std::size_t kShapes = 5;

/// A range of values and round numbers in it.
struct Axis {
  double low;
  double high;
  double step;

  int decimals() const { return std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))); }
};

/// Covers [low, high] with about four round steps.
Axis make_axis(double low, double high) {
  const double span = high - low;
  const double rough = (span > 0 ? span : std::max(std::abs(high), 1.0)) / 4;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double round : {1.0, 2.0, 5.0}) {
    if (round * power >= rough * 0.999) {
      step = round * power;
      break;
    }
  }
  const double first = std::floor(low / step + 1e-9) * step;
  const double last = std::ceil(high / step - 1e-9) * step;
  return {first, std::max(last, first + step), step};
}

/// The shape of a style, centred at 0, about 9 wide.
std::string shape(std::size_t style) {
  static const std::array<const char*, kShapes> kPaths = {
      "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0Z",     // circle
      "M-3.8 -3.8H3.8V3.8H-3.8Z",                              // square
      "M0 -5L4.8 3.6H-4.8Z",                                   // triangle
      "M0 -5.4L5 0L0 5.4L-5 0Z",                               // diamond
      "M-1.6 -5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z",  // cross
  };
  return fmt::format("<path d=\"{}\"/>", kPaths[style % kShapes]);
}

std::string class_of(std::size_t style) {
  return fmt::format("s{}", style % kColours);
}

/// Draws into the frame.
class Canvas {
 public:
  Canvas(const Plot& plot, Axis x, Axis y) : plot_(plot), x_(x), y_(y) {}

  std::string draw() {
    grid();
    if (plot_.falls_with_x) {
      const double end = std::min(x_.high, 1.0);
      line("guide", 0, plot_.baseline, end, plot_.baseline * (1 - end));
    }
    line("dense", x_.low, plot_.baseline, x_.high, plot_.baseline);
    for (const Series& series : plot_.series) draw(series);
    return std::move(out_);
  }

 private:
  double px(double x) const { return kLeft + (x - x_.low) / (x_.high - x_.low) * (kWidth - kLeft - kRight); }
  double py(double y) const {
    return kHeight - kBottom - (y - y_.low) / (y_.high - y_.low) * (kHeight - kTop - kBottom);
  }

  void line(const char* kind, double x1, double y1, double x2, double y2) {
    out_ += fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", kind, px(x1),
                        py(y1), px(x2), py(y2));
  }

  void text(double x, double y, const char* anchor, const std::string& words, const char* more = "") {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                        escape(words));
  }

  static int steps(const Axis& axis) { return static_cast<int>(std::lround((axis.high - axis.low) / axis.step)); }

  void grid() {
    for (int i = 0; i <= steps(y_); ++i) {
      const double y = y_.low + i * y_.step;
      const double shown = std::abs(y) < y_.step / 2 ? 0 : y;
      line("grid", x_.low, y, x_.high, y);
      const bool sign = plot_.signed_y && shown != 0;
      text(kLeft - 7, py(y) + 4, "end",
           sign ? fmt::format("{:+.{}f}", shown, y_.decimals()) : fmt::format("{:.{}f}", shown, y_.decimals()));
    }
    for (int i = 0; i <= steps(x_); ++i) {
      const double x = x_.low + i * x_.step;
      line("tick", x, y_.low, x, y_.low);
      text(px(x), kHeight - kBottom + 17, "middle", fmt::format("{:.{}f}%", 100 * x, std::max(0, x_.decimals() - 2)));
    }
    text((kLeft + kWidth - kRight) / 2, kHeight - 5, "middle", plot_.x_label, " class=\"axis\"");
  }

  void draw(const Series& series) {
    std::string path;
    std::string marks;
    for (const Point& point : series.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px(point.x), py(point.y));
      std::string mark;
      if (std::isfinite(point.error) && point.error > 0) {
        const double above = py(point.y + point.error) - py(point.y);
        mark = fmt::format("<path class=\"error\" d=\"M-4 {0:.1f}H4M0 {0:.1f}V{1:.1f}M-4 {1:.1f}H4\"/>", above, -above);
      }
      marks += fmt::format("<g transform=\"translate({:.1f} {:.1f})\"><title>{}</title>{}{}</g>\n", px(point.x),
                           py(point.y), escape(point.text), mark, shape(series.style));
    }
    out_ += fmt::format("<g class=\"{}\">\n", class_of(series.style));
    if (path.find('L') != std::string::npos) out_ += fmt::format("<path class=\"joins\" d=\"{}\"/>\n", path);
    out_ += marks + "</g>\n";
  }

  const Plot& plot_;
  Axis x_;
  Axis y_;
  std::string out_;
};

}  // namespace

std::string to_svg(const Plot& plot) {
  double left = 0;
  double right = 0.1;
  double low = plot.baseline;
  double high = plot.baseline;
  std::string words;
  for (const Series& series : plot.series) {
    for (const Point& point : series.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      const double error = std::isfinite(point.error) ? point.error : 0;
      left = std::min(left, point.x);
      right = std::max(right, point.x * 1.04);
      low = std::min(low, point.y - error);
      high = std::max(high, point.y + error);
      if (!words.empty()) words += "; ";
      words += point.text;
    }
  }
  if (words.empty()) return "";
  if (plot.falls_with_x) low = std::min(low, plot.baseline * (1 - std::min(right, 1.0)));
  std::string drawing = Canvas(plot, make_axis(left, right), make_axis(low, high)).draw();
  return fmt::format(
      "<figure class=\"plot\">\n<figcaption><b>{}</b> {}</figcaption>\n"
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n</figure>\n",
      escape(plot.title), escape(plot.y_label), kWidth, kHeight, escape(plot.title + ". " + words), drawing);
}

std::string legend(const std::vector<Series>& series) {
  std::string html = "<ul class=\"legend\">\n";
  for (const Series& one : series) {
    html += fmt::format("<li><svg viewBox=\"-7 -7 14 14\" aria-hidden=\"true\"><g class=\"{}\">{}</g></svg>{}</li>\n",
                        class_of(one.style), shape(one.style), escape(one.name));
  }
  return html +
         "<li><svg viewBox=\"-7 -7 14 14\" aria-hidden=\"true\"><path class=\"dense\" d=\"M-7 0H7\"/></svg>dense</li>\n"
         "</ul>\n";
}

}  // namespace molt::report
