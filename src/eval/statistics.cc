#include "eval/statistics.h"

#include <cmath>
#include <limits>
#include <map>

#include "base/check.h"

namespace molt::eval {

Estimate estimate(std::span<const double> values, std::span<const std::int64_t> clusters) {
  MOLT_CHECK(!values.empty() && values.size() == clusters.size());
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;

  std::map<std::int64_t, double> deviations;  // of each cluster, summed
  for (std::size_t i = 0; i < values.size(); ++i) deviations[clusters[i]] += values[i] - mean;
  double squares = 0;
  for (const auto& [cluster, deviation] : deviations) squares += deviation * deviation;
  const auto g = static_cast<double>(deviations.size());
  return {.mean = mean,
          .error = g > 1 ? std::sqrt(g / (g - 1) * squares) / n : std::numeric_limits<double>::quiet_NaN(),
          .items = static_cast<std::int64_t>(values.size()),
          .clusters = static_cast<std::int64_t>(deviations.size())};
}

}  // namespace molt::eval
