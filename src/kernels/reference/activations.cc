#include "kernels/reference/reference_backend.h"
#include "kernels/reference/scalar.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const {
  shapes::check_same(x, z);
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < x.cols; ++i) y(t, i) = static_cast<float>(x(t, i) * reference::silu(z(t, i)));
  }
}

void ReferenceBackend::relu(Matrix<const float> x, Matrix<float> y) const {
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < x.cols; ++i) y(t, i) = x(t, i) < 0 ? 0 : x(t, i);
  }
}

void ReferenceBackend::softplus(Matrix<const float> x, const float* bias, float low, float high,
                                Matrix<float> y) const {
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < x.cols; ++i) {
      const auto v = static_cast<float>(reference::softplus(x(t, i) + (bias == nullptr ? 0.0 : bias[i])));
      const float floored = v < low ? low : v;  // in this order a NaN stays one
      y(t, i) = floored > high ? high : floored;
    }
  }
}

}  // namespace molt
