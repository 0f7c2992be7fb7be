// Colours of layers.
#pragma once

#include <array>
#include <string>

namespace molt::report {

using Colour = std::array<double, 3>;  // sRGB, 0 .. 1

/// The scale viridis (van der Walt and Smith, matplotlib, 2015) from dark violet at 0 to yellow at 1: even to the eye,
/// also in grey and to the colour-blind. Straight lines between nine of its colours.
Colour viridis(double along);

/// "#440154".
std::string css_of(const Colour& colour);

/// Whether black is easier to read on it than white, by WCAG 2.1's contrast.
bool is_light(const Colour& colour);

}  // namespace molt::report
