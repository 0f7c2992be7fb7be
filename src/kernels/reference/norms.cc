// Root mean square norms (Zhang & Sennrich 2019), plain, with the residual added first, and gated; layer norms.
#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/scalar.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// 1 / sqrt(mean of value(i)^2 over n + eps).
template <class Value>
double inverse_rms(std::int64_t n, float eps, Value value) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += value(i) * value(i);
  return 1.0 / std::sqrt(sum / static_cast<double>(n) + eps);
}

double weight_at(const float* weight, std::int64_t i) {
  return weight == nullptr ? 1.0 : weight[i];
}

}  // namespace

void ReferenceBackend::rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const {
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const double scale = inverse_rms(x.cols, eps, [&](std::int64_t i) -> double { return x(t, i); });
    for (std::int64_t i = 0; i < x.cols; ++i) y(t, i) = static_cast<float>(x(t, i) * scale * weight_at(weight, i));
  }
}

void ReferenceBackend::add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                                    Matrix<float> y) const {
  shapes::check_same(residual, h);
  for (std::int64_t t = 0; t < h.rows; ++t) {
    for (std::int64_t i = 0; i < h.cols; ++i) residual(t, i) += h(t, i);
  }
  ReferenceBackend::rms_norm(residual, weight, eps, y);
}

void ReferenceBackend::gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                                      std::int64_t group, bool norm_before_gate, Matrix<float> y) const {
  shapes::check_gated_rms_norm(x, z, group, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t first = 0; first < x.cols; first += group) {
      const auto gate = [&](std::int64_t i) { return reference::silu(z(t, first + i)); };
      const double scale = inverse_rms(group, eps, [&](std::int64_t i) -> double {
        return norm_before_gate ? x(t, first + i) : x(t, first + i) * gate(i);
      });
      for (std::int64_t i = 0; i < group; ++i) {
        y(t, first + i) = static_cast<float>(x(t, first + i) * gate(i) * scale * weight_at(weight, first + i));
      }
    }
  }
}

void ReferenceBackend::layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                                  Matrix<float> y) const {
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    double mean = 0;
    for (std::int64_t i = 0; i < x.cols; ++i) mean += x(t, i);
    mean /= static_cast<double>(x.cols);
    const double scale = inverse_rms(x.cols, eps, [&](std::int64_t i) { return x(t, i) - mean; });
    for (std::int64_t i = 0; i < x.cols; ++i) {
      y(t, i) = static_cast<float>((x(t, i) - mean) * scale * weight[i] + bias[i]);
    }
  }
}

}  // namespace molt
