// The grid of a group of weights that loses least, where weights matter differently.
#pragma once

#include <span>

#include "tensor/quantized_matrix.h"

namespace molt {

/// A grid of `bits` bits for `values`, with a small sum of importance * (value - rounded value)^2: the range of the
/// values, and ranges up to half as wide, each with its zero point and both neighbours of it (4 bits), each also with
/// the scale refitted by least squares to the codes that it gives; the first of equals. What lies beyond a grid is
/// rounded to its end. Deterministic; keeps nothing.
QuantizedGrid search_grid(std::span<const double> values, std::span<const double> importance, int bits);

}  // namespace molt
