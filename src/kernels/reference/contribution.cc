// How much of a sequence's last state comes from each of its rows.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

double norm(const float* x, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return std::sqrt(sum);
}

/// What is left of a row's write after steps of sum `later`.
double decay_after(double later, float A) {
  return std::exp(std::max(-60.0, A * later));
}

/// Calls write(t, h, later) for all rows t of a sequence and all heads h, for the size of what the row wrote there;
/// `later` is the sum of dt * m over the rows behind it. c = the shares of that, averaged over the heads.
template <class Write>
void contributions(Matrix<const float> dt, const float* m, Offsets offsets, float* c, Write write) {
  const std::int64_t heads = dt.cols;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const std::int64_t first = offsets[s], end = offsets[s + 1];
    std::vector<double> shares(static_cast<std::size_t>(end - first)), sizes(shares.size());
    for (std::int64_t h = 0; h < heads; ++h) {
      double later = 0, sum = 0;
      for (std::int64_t t = end - 1; t >= first; --t) {
        sum += sizes[static_cast<std::size_t>(t - first)] = write(t, h, later);
        later += static_cast<double>(dt(t, h)) * (m == nullptr ? 1.0 : m[t]);
      }
      if (sum == 0) continue;
      for (std::size_t i = 0; i < sizes.size(); ++i) shares[i] += sizes[i] / sum;
    }
    for (std::int64_t t = first; t < end; ++t) {
      c[t] = static_cast<float>(shares[static_cast<std::size_t>(t - first)] / static_cast<double>(heads));
    }
  }
}

}  // namespace

void ReferenceBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                                   Matrix<const float> B, const float* m, Offsets offsets,
                                                   float* c) const {
  const std::int64_t N = shapes::check_selective_scan(x, dt, A, B).states;
  shapes::check_offsets(offsets, x.rows);
  contributions(dt, m, offsets, c, [&](std::int64_t t, std::int64_t d, double later) {
    double squares = 0;
    for (std::int64_t n = 0; n < N; ++n) {
      const double left = B(t, n) * decay_after(later, A(n, d));
      squares += left * left;
    }
    return dt(t, d) * std::fabs(static_cast<double>(x(t, d))) * std::sqrt(squares);
  });
}

void ReferenceBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                        Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                        float* c) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, groups);
  shapes::check_offsets(offsets, x.rows);
  contributions(dt, m, offsets, c, [&](std::int64_t t, std::int64_t h, double later) {
    const std::int64_t group = h / shape.heads_per_group();
    return dt(t, h) * norm(x.row(t) + h * shape.channels, shape.channels) *
           norm(B.row(t) + group * shape.states, shape.states) * decay_after(later, A[static_cast<std::size_t>(h)]);
  });
}

}  // namespace molt
