// The state space dual scan as the recurrence that it is. Fast backends compute the same in chunks.
#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/stored_state.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                           Matrix<const float> B, Matrix<const float> C, std::int64_t groups, std::span<const float> D,
                           const ScanRows& rows, Matrix<float> y) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, C, groups, D, rows, y);
  const std::int64_t P = shape.channels;
  const std::int64_t N = shape.states;
  std::vector<double> S(static_cast<std::size_t>(N * P));  // rounded only after the last row
  std::vector<double> sum(static_cast<std::size_t>(P));
  const float* const m = rows.multiplicity;
  for (std::size_t s = 0; s < rows.sequences(); ++s) {
    const StoredState state(rows, s);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t first = h * N * P;  // of the head's state
      const std::int64_t group_column = h / shape.heads_per_group() * N;
      for (std::int64_t i = 0; i < N * P; ++i) S[static_cast<std::size_t>(i)] = state.get(first + i);
      for (std::int64_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
        const double step = dt(t, h);
        const double decay = std::exp(step * (m == nullptr ? 1.0 : m[t]) * A[static_cast<std::size_t>(h)]);
        const float* input = x.row(t) + h * P;
        sum.assign(sum.size(), 0.0);
        for (std::int64_t n = 0; n < N; ++n) {
          const double b = step * B(t, group_column + n);
          const double c = C(t, group_column + n);
          double* state_row = S.data() + n * P;
          for (std::int64_t p = 0; p < P; ++p) {
            state_row[p] = decay * state_row[p] + b * input[p];
            sum[static_cast<std::size_t>(p)] += c * state_row[p];
          }
        }
        if (rows.wanted != nullptr && rows.wanted[t] == 0) continue;
        for (std::int64_t p = 0; p < P; ++p) {
          const double skip = D.empty() ? 0.0 : static_cast<double>(D[static_cast<std::size_t>(h * P + p)]) * input[p];
          y(t, h * P + p) = static_cast<float>(sum[static_cast<std::size_t>(p)] + skip);
        }
      }
      for (std::int64_t i = 0; i < N * P; ++i)
        state.set(first + i, h * P + i % P, i / P, S[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace molt
