#include "reduction/schedule.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"

namespace molt {
namespace {

/// The nearest integer, the even one of two.
std::int64_t nearest(double x) {
  const double below = std::floor(x);
  const double rest = x - below;
  const auto low = static_cast<std::int64_t>(below);
  if (rest != 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 == 0 ? low : low + 1;
}

/// The weight of each site in what is removed; the largest is 1.
std::vector<double> ramp_weights(std::size_t sites, Ramp ramp) {
  std::vector<double> weights(sites, 1.0);
  if (ramp == Ramp::flat) return weights;
  for (std::size_t i = 0; i < sites; ++i) weights[i] = static_cast<double>(i + 1) / static_cast<double>(sites);
  if (ramp == Ramp::falling) std::reverse(weights.begin(), weights.end());
  return weights;
}

}  // namespace

std::vector<std::int64_t> paper_sites(std::int64_t layers) {
  // The paper's two depths are spaced differently in proportion; other depths follow the one of 64, end points first.
  double first = static_cast<double>(nearest(static_cast<double>(layers) * 12 / 64));
  double last = static_cast<double>(nearest(static_cast<double>(layers) * 42 / 64));
  int steps = 6;
  if (layers == 48) {
    first = 10;
    last = 35;
    steps = 5;
  }
  std::vector<std::int64_t> sites;
  for (int i = 0; i <= steps; ++i) {
    const std::int64_t site = nearest(first + (last - first) * i / steps);
    if (site < layers - 1 && (sites.empty() || site > sites.back())) sites.push_back(site);
  }
  return sites;
}

double cut_of(const Schedule& schedule, std::int64_t layers) {
  double length = 1;
  double sum = 0;
  std::size_t site = 0;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    sum += length;
    while (site < schedule.sites.size() && schedule.sites[site] == layer) length *= schedule.ratios[site++];
  }
  return 1 - sum / static_cast<double>(layers);
}

Schedule solve_schedule(std::vector<std::int64_t> sites, std::int64_t layers, double flops, Ramp ramp) {
  const std::vector<double> weights = ramp_weights(sites.size(), ramp);
  Schedule schedule{std::move(sites), std::vector<double>(weights.size(), 1.0)};
  if (flops <= 0) return schedule;           // exactly nothing
  const auto cut_with = [&](double share) {  // removed where the weight is 1
    for (std::size_t i = 0; i < weights.size(); ++i) schedule.ratios[i] = std::max(0.0, 1 - share * weights[i]);
    return cut_of(schedule, layers);
  };
  double low = 0;
  double high = 1;
  const double most = cut_with(high);
  if (most < flops) {
    fail(
        "reduction behind {} blocks ({}) of {} can cut at most {:.3g} of the FLOPs, not {}: name earlier sites, or ask "
        "for less",
        schedule.sites.size(), fmt::join(schedule.sites, "+"), layers, std::max(most, 0.0), flops);
  }
  for (;;) {  // until no double lies between the two: fewer than 1100 steps, usually 60
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    (cut_with(middle) < flops ? low : high) = middle;
  }
  cut_with(high);
  return schedule;
}

std::int64_t tokens_kept(std::int64_t tokens, double ratio) {
  const auto kept = static_cast<std::int64_t>(std::ceil(static_cast<double>(tokens) * ratio));
  return std::min(tokens, std::max<std::int64_t>(2, kept));
}

}  // namespace molt
