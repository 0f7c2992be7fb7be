#include "report/colours.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace molt::report {
namespace {

constexpr std::array<std::uint32_t, 9> kViridis = {0x440154, 0x472D7B, 0x3B528B, 0x2C728E, 0x21918C,
                                                   0x28AE80, 0x5EC962, 0xADDC30, 0xFDE725};

Colour colour_of(std::uint32_t rgb) {
  const auto part = [&](int shift) { return static_cast<double>((rgb >> shift) & 0xFF) / 255; };
  return {part(16), part(8), part(0)};
}

/// WCAG 2.1, "relative luminance".
double luminance(const Colour& colour) {
  const auto linear = [](double c) { return c <= 0.03928 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4); };
  return 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
}

}  // namespace

Colour viridis(double along) {
  const double at = std::clamp(along, 0.0, 1.0) * static_cast<double>(kViridis.size() - 1);
  const auto below = std::min(static_cast<std::size_t>(at), kViridis.size() - 2);
  const double part = at - static_cast<double>(below);
  const Colour a = colour_of(kViridis[below]);
  const Colour b = colour_of(kViridis[below + 1]);
  Colour colour{};
  for (std::size_t i = 0; i < colour.size(); ++i) colour[i] = a[i] + part * (b[i] - a[i]);
  return colour;
}

std::string css_of(const Colour& colour) {
  const auto part = [&](std::size_t i) { return static_cast<int>(std::lround(255 * colour[i])); };
  return fmt::format("#{:02x}{:02x}{:02x}", part(0), part(1), part(2));
}

bool is_light(const Colour& colour) {
  const double l = luminance(colour);
  return (l + 0.05) / 0.05 > 1.05 / (l + 0.05);
}

}  // namespace molt::report
