#include "kernels/reference/reference_backend.h"
#include "kernels/reference/scalar.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias,
                                   Offsets offsets, std::span<float* const> states, Matrix<float> y) const {
  shapes::check_causal_conv(x, weight, offsets, states, y);
  const std::int64_t channels = x.cols;
  const std::int64_t past = weight.rows - 1;  // inputs before a sequence's first row that the taps reach
  for (std::size_t s = 0; s < states.size(); ++s) {
    const Matrix<const float> rows = x.row_range(offsets[s], offsets[s + 1]);
    const Matrix<float> state(states[s], past, channels);
    const auto input = [&](std::int64_t t, std::int64_t c) { return t < 0 ? state(past + t, c) : rows(t, c); };
    for (std::int64_t t = 0; t < rows.rows; ++t) {
      for (std::int64_t c = 0; c < channels; ++c) {
        double sum = bias == nullptr ? 0.0 : bias[c];
        for (std::int64_t k = 0; k <= past; ++k) sum += static_cast<double>(weight(k, c)) * input(t - past + k, c);
        y(offsets[s] + t, c) = static_cast<float>(reference::silu(sum));
      }
    }
    // Oldest first, so that a row of the state is read before it is overwritten.
    for (std::int64_t i = 0; i < past; ++i) {
      for (std::int64_t c = 0; c < channels; ++c) state(i, c) = input(rows.rows - past + i, c);
    }
  }
}

}  // namespace molt
