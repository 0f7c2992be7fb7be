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

/// The mean of `values` (at least one), each counting with its weight (empty: all alike), and its standard error, where
/// values of one cluster (items from one document) need not be independent:
///   error^2 = G / (G - 1) * sum over clusters of (sum over its values of weight * (value - mean))^2 / W^2
/// of G clusters and weights that sum to W (Liang & Zeger 1986; for a ratio of sums this is the usual linearisation).
/// With a cluster for every value and no weights it is s / sqrt(n).
Estimate estimate(std::span<const double> values, std::span<const std::int64_t> clusters,
                  std::span<const double> weights = {});

}  // namespace molt::eval
