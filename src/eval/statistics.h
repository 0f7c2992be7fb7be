// Means with their standard errors, of items that may hang together.
//
// Pure functions.
#pragma once

#include <cstdint>
#include <span>

namespace molt::eval {

struct Estimate {
  double mean = 0;
  double error = 0;  // standard error of the mean; NaN where one cluster alone cannot tell
  std::int64_t items = 0;
  std::int64_t clusters = 0;
};

/// The mean of `values` (at least one) and its standard error, where values of one cluster (items from one document)
/// need not be independent:
///   error^2 = G / (G - 1) * sum over clusters of (sum over its values of (value - mean))^2 / n^2
/// of G clusters and n values (Liang & Zeger 1986). With a cluster for every value this is the usual s / sqrt(n).
Estimate estimate(std::span<const double> values, std::span<const std::int64_t> clusters);

}  // namespace molt::eval
