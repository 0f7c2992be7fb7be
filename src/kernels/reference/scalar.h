// The scalar functions of the ops, in double.
#pragma once

#include <cmath>

namespace molt::reference {

inline double silu(double x) {
  return x / (1.0 + std::exp(-x));
}

/// log(1 + exp(x)) without overflow: for large x it is x itself, for very negative x it is exp(x).
inline double softplus(double x) {
  return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
}

}  // namespace molt::reference
