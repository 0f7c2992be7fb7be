#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/stored_state.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                      Matrix<const float> B, Matrix<const float> C, const float* D,
                                      const ScanRows& rows, Matrix<float> y) const {
  const auto [channels, N] = shapes::check_selective_scan(x, dt, A, B, C, rows, y);
  const float* const m = rows.multiplicity;
  for (std::size_t s = 0; s < rows.sequences(); ++s) {
    const StoredState state(rows, s);
    for (std::int64_t d = 0; d < channels; ++d) {
      std::vector<double> H(static_cast<std::size_t>(N));  // rounded only after the last row
      for (std::int64_t n = 0; n < N; ++n) H[static_cast<std::size_t>(n)] = state.get(n * channels + d);
      for (std::int64_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
        const double step = dt(t, d);
        const double decay_step = m == nullptr ? step : step * m[t];
        const double input = x(t, d);
        double sum = D == nullptr ? 0.0 : D[d] * input;
        for (std::int64_t n = 0; n < N; ++n) {
          double& h = H[static_cast<std::size_t>(n)];
          h = std::exp(decay_step * A(n, d)) * h + step * B(t, n) * input;
          sum += C(t, n) * h;
        }
        if (rows.wanted == nullptr || rows.wanted[t] != 0) y(t, d) = static_cast<float>(sum);
      }
      for (std::int64_t n = 0; n < N; ++n) state.set(n * channels + d, d, n, H[static_cast<std::size_t>(n)]);
    }
  }
}

}  // namespace molt
