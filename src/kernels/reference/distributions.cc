// What logits say of the next token.
#include <cmath>
#include <limits>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  for (std::int64_t t = 0; t < x.rows; ++t) {
    float most = -std::numeric_limits<float>::infinity();
    for (std::int64_t i = 0; i < x.cols; ++i) most = std::fmax(most, x(t, i));
    const auto largest = static_cast<double>(most);
    double sum = 0;
    for (std::int64_t i = 0; i < x.cols; ++i) sum += std::exp(static_cast<double>(x(t, i)) - largest);
    sums[t] = largest + std::log(sum);
  }
}

void ReferenceBackend::divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const {
  shapes::check_divergence(p, q);
  for (std::int64_t t = 0; t < p.rows; ++t) {
    sums[t] = 0;
    for (std::int64_t i = 0; i < p.cols; ++i) {
      sums[t] += std::exp(static_cast<double>(p(t, i))) * (static_cast<double>(p(t, i)) - static_cast<double>(q(t, i)));
    }
  }
}

}  // namespace molt
