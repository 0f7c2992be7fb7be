// Cases of the ops on logits and log-probabilities.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "tests/kernels/cases.h"

namespace molt::testing_kernels {

/// Rows whose exponentials sum to 1.
inline Rows log_probabilities(std::int64_t rows, std::int64_t cols, Random& random, float scale) {
  Rows x(rows, cols, 2, random, scale);
  for (std::int64_t t = 0; t < rows; ++t) {
    double sum = 0;
    for (std::int64_t i = 0; i < cols; ++i) sum += std::exp(static_cast<double>(x.matrix()(t, i)));
    for (std::int64_t i = 0; i < cols; ++i) x.matrix()(t, i) -= static_cast<float>(std::log(sum));
  }
  return x;
}

/// What `run` writes into a double for each of `rows` rows.
template <class Run>
Outputs sums_of(std::int64_t rows, Run run) {
  std::vector<double> sums(static_cast<std::size_t>(rows));
  run(sums.data());
  return {{Floats(sums.begin(), sums.end())}};
}

inline void add_distribution_cases(std::vector<Case>& cases) {
  for (const std::int64_t cols : {1, 3, 15, 16, 511, 512, 513, 50280}) {
    const std::int64_t rows = cols == 3 ? 0 : 3;
    for (const float scale : {0.1F, 1.0F, 30.0F}) {
      const std::string label = std::to_string(rows) + "x" + std::to_string(cols) + " * " + std::to_string(scale);
      cases.push_back({"log_sum_exp " + label, [=](const Backend& backend) {
                         Random random(17);
                         const Rows x(rows, cols, 4, random, scale);
                         return sums_of(rows, [&](double* sums) { backend.log_sum_exp(x.matrix(), sums); });
                       }});
      cases.push_back({"divergence " + label, [=](const Backend& backend) {
                         Random random(18);
                         const Rows p = log_probabilities(rows, cols, random, scale);
                         const Rows q = log_probabilities(rows, cols, random, scale);
                         return sums_of(rows, [&](double* sums) { backend.divergence(p.matrix(), q.matrix(), sums); });
                       }});
    }
  }
}

}  // namespace molt::testing_kernels
