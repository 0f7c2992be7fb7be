#include "compress/grid_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace molt {
namespace {

constexpr int kSteps = 25;                  // of the range's shrinking
constexpr double kLeastRange = 0.5;         // of the whole range, at the last step
constexpr double kRoundToWhole = 0x1.8p52;  // added and subtracted: rounds, ties to even, without a call

/// Looks for the best grid among those it is shown.
class Search {
 public:
  Search(std::span<const double> values, std::span<const double> importance, int max_code)
      : values_(values), importance_(importance), max_code_(max_code) {}

  /// Tries a grid and, with the codes it gives, the scale that fits them best.
  void consider(double scale, int zero) {
    const double refitted = try_grid(scale, zero);
    if (refitted > 0) try_grid(refitted, zero);
  }

  QuantizedGrid best() const { return best_; }

 private:
  /// The least squares scale for the grid's codes; 0 where all of them are the zero point.
  double try_grid(double wanted_scale, int zero) {
    const QuantizedGrid grid{BFloat16::from_float(static_cast<float>(wanted_scale)), static_cast<std::uint8_t>(zero)};
    const double scale = grid.scale.to_float();
    if (!(scale > 0) || !std::isfinite(scale)) return 0;
    const double low = -zero;
    const double high = max_code_ - zero;
    double error = 0;
    double value_by_code = 0;
    double code_by_code = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const double value = values_[i];
      const double code = std::clamp((value / scale + kRoundToWhole) - kRoundToWhole, low, high);
      const double difference = value - scale * code;
      error += importance_[i] * difference * difference;
      value_by_code += importance_[i] * value * code;
      code_by_code += importance_[i] * code * code;
    }
    if (error < least_) {
      least_ = error;
      best_ = grid;
    }
    return code_by_code > 0 ? value_by_code / code_by_code : 0;
  }

  std::span<const double> values_;
  std::span<const double> importance_;
  int max_code_;
  double least_ = std::numeric_limits<double>::infinity();
  QuantizedGrid best_;
};

}  // namespace

QuantizedGrid search_grid(std::span<const double> values, std::span<const double> importance, int bits) {
  MOLT_CHECK(values.size() == importance.size() && !values.empty());
  const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
  const double low = std::min(*least, 0.0);
  const double high = std::max(*greatest, 0.0);
  if (low == 0 && high == 0) return make_grid(0, 0, bits);
  const int max_code = (1 << bits) - 1;
  Search search(values, importance, max_code);
  for (int step = 0; step < kSteps; ++step) {
    const double share = 1 - (1 - kLeastRange) * step / (kSteps - 1);
    if (bits == 8) {
      search.consider(share * std::max(-low, high) / 127, 128);
      continue;
    }
    const double scale = share * (high - low) / max_code;
    const int zero = std::clamp(static_cast<int>(std::lround(-share * low / scale)), 0, max_code);
    for (int z = std::max(0, zero - 1); z <= std::min(max_code, zero + 1); ++z) search.consider(scale, z);
  }
  return search.best();
}

}  // namespace molt
