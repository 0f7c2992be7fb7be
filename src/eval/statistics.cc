#include "eval/statistics.h"

#include <cmath>
#include <limits>
#include <map>

#include "base/check.h"

namespace molt::eval {

Estimate estimate(std::span<const double> values, std::span<const std::int64_t> clusters,
                  std::span<const double> weights) {
  MOLT_CHECK(!values.empty() && values.size() == clusters.size());
  MOLT_CHECK(weights.empty() || weights.size() == values.size());
  const auto weight = [&](std::size_t i) { return weights.empty() ? 1.0 : weights[i]; };
  double sum = 0;
  double total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum += weight(i) * values[i];
    total += weight(i);
  }
  MOLT_CHECK(total > 0);
  const double mean = sum / total;

  std::map<std::int64_t, double> deviations;  // of each cluster, summed
  for (std::size_t i = 0; i < values.size(); ++i) deviations[clusters[i]] += weight(i) * (values[i] - mean);
  double squares = 0;
  for (const auto& [cluster, deviation] : deviations) squares += deviation * deviation;
  const auto g = static_cast<double>(deviations.size());
  return {.mean = mean,
          .error = g > 1 ? std::sqrt(g / (g - 1) * squares) / total : std::numeric_limits<double>::quiet_NaN(),
          .items = static_cast<std::int64_t>(values.size()),
          .clusters = static_cast<std::int64_t>(deviations.size())};
}

}  // namespace molt::eval
