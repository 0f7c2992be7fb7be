// Which rows matter, and which are alike.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// What one value adds to its row's importance. A NaN stays one.
double weigh(Importance metric, double y) {
  switch (metric) {
    case Importance::clip: return y < 0 ? 0 : y;
    case Importance::l1: return std::fabs(y);
    case Importance::l2: return y * y;
    case Importance::signed_mean: return y;
  }
  MOLT_CHECK(false);
}

/// Row i of x, scaled to length 1.
std::vector<double> unit(Matrix<const float> x, std::int64_t i) {
  double squares = 0;
  for (std::int64_t k = 0; k < x.cols; ++k) squares += static_cast<double>(x(i, k)) * x(i, k);
  const double length = std::sqrt(squares);
  std::vector<double> u(x.row(i), x.row(i) + x.cols);
  for (double& value : u) value /= length < 1e-12 ? 1e-12 : length;
  return u;
}

}  // namespace

void ReferenceBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  for (std::int64_t t = 0; t < y.rows; ++t) {
    double sum = 0;
    for (std::int64_t i = 0; i < y.cols; ++i) sum += weigh(metric, y(t, i));
    const double mean = sum / static_cast<double>(y.cols);
    scores[t] = static_cast<float>(metric == Importance::l2 ? std::sqrt(mean) : mean);
  }
}

void ReferenceBackend::best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                                  std::span<const std::int64_t> targets, bool later_only, std::int64_t* match,
                                  float* similarity) const {
  shapes::check_best_match(x, sources, targets);
  std::vector<std::vector<double>> units;
  for (const std::int64_t target : targets) units.push_back(unit(x, target));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::vector<double> u = unit(x, sources[i]);
    match[i] = -1;
    similarity[i] = -std::numeric_limits<float>::infinity();
    for (std::size_t j = 0; j < targets.size(); ++j) {
      if (later_only && targets[j] <= sources[i]) continue;
      double sum = 0;
      for (std::size_t k = 0; k < u.size(); ++k) sum += u[k] * units[j][k];
      const auto cosine = static_cast<float>(sum);
      if (match[i] >= 0 && !(cosine > similarity[i])) continue;
      match[i] = targets[j];
      if (!std::isnan(cosine)) similarity[i] = cosine;
    }
  }
}

}  // namespace molt
