// What removing weights costs at best, by plain elimination: independent of Eigen and of what is tested.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "compress/pruning_mask.h"
#include "tests/compress/problems.h"

namespace molt::testing_compress {

using Row = std::vector<double>;

/// The solution of a x = b by elimination with row pivoting, in long double.
inline Row solve(const Rows& a, const Row& b) {
  const std::size_t n = b.size();
  std::vector<std::vector<long double>> m(n, std::vector<long double>(n + 1));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) m[i][j] = a[i][j];
    m[i][n] = b[i];
  }
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t best = k;
    for (std::size_t i = k + 1; i < n; ++i) {
      if (std::abs(m[i][k]) > std::abs(m[best][k])) best = i;
    }
    std::swap(m[k], m[best]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const long double factor = m[i][k] / m[k][k];
      for (std::size_t j = k; j <= n; ++j) m[i][j] -= factor * m[k][j];
    }
  }
  Row x(n);
  for (std::size_t k = n; k-- > 0;) {
    long double sum = m[k][n];
    for (std::size_t j = k + 1; j < n; ++j) sum -= m[k][j] * static_cast<long double>(x[j]);
    x[k] = static_cast<double>(sum / m[k][k]);
  }
  return x;
}

/// (w - v) H (w - v)'
inline double error_of(const Row& w, const Row& v, const Rows& h) {
  long double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    for (std::size_t j = 0; j < w.size(); ++j) {
      sum += static_cast<long double>(w[i] - v[i]) * h[i][j] * static_cast<long double>(w[j] - v[j]);
    }
  }
  return static_cast<double>(sum);
}

/// Moves the columns of v that are not `fixed` to where (w - v) H (w - v)' is least.
inline void settle(const Row& w, Row& v, const Rows& h, const std::vector<bool>& fixed) {
  std::vector<std::size_t> free;
  for (std::size_t i = 0; i < w.size(); ++i) {
    if (!fixed[i]) free.push_back(i);
  }
  // With d = w - v: H_FF d_F = -H_FX d_X of the fixed X.
  Rows a(free.size(), Row(free.size()));
  Row b(free.size(), 0.0);
  for (std::size_t i = 0; i < free.size(); ++i) {
    for (std::size_t j = 0; j < free.size(); ++j) a[i][j] = h[free[i]][free[j]];
    for (std::size_t x = 0; x < w.size(); ++x) {
      if (fixed[x]) b[i] -= h[free[i]][x] * (w[x] - v[x]);
    }
  }
  const Row d = solve(a, b);
  for (std::size_t i = 0; i < free.size(); ++i) v[free[i]] = w[free[i]] - d[i];
}

/// w with what `gone` marks removed in blocks of `size` columns from left to right: all of a block at once, after which
/// it is fixed.
inline Row removed_in_blocks(const Row& w, const std::vector<bool>& gone, const Rows& h, std::size_t size) {
  Row v = w;
  std::vector<bool> fixed(w.size(), false);
  for (std::size_t begin = 0; begin < w.size(); begin += size) {
    const std::size_t end = std::min(begin + size, w.size());
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) {
      if (!gone[i]) continue;
      any = fixed[i] = true;
      v[i] = 0;
    }
    if (any) settle(w, v, h, fixed);
    for (std::size_t i = begin; i < end; ++i) fixed[i] = true;
  }
  return v;
}

/// H with `damping` times the mean of its diagonal on the diagonal.
inline Rows damped(const InputMoments& moments, double damping) {
  const auto n = static_cast<std::size_t>(moments.width());
  Rows h(n, Row(n));
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      h[i][j] = moments.products()(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j));
    }
    mean += h[i][i] / static_cast<double>(n);
  }
  for (std::size_t i = 0; i < n; ++i) h[i][i] += damping * mean;
  return h;
}

inline MatrixXd random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Random random(seed);
  MatrixXd matrix(rows, cols);
  for (Eigen::Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = 0.05 * random.normal();
  return matrix;
}

inline Row row_of(const MatrixXd& matrix, Eigen::Index r) {
  return {matrix.row(r).data(), matrix.row(r).data() + matrix.cols()};
}

inline std::vector<bool> marks_of(const Mask& mask, Eigen::Index r) {
  std::vector<bool> marks;
  for (Eigen::Index i = 0; i < mask.cols(); ++i) marks.push_back(mask(r, i) != 0);
  return marks;
}

/// The sum of the rows' errors.
inline double total_error(const MatrixXd& w, const MatrixXd& v, const Rows& h) {
  double sum = 0;
  for (Eigen::Index r = 0; r < w.rows(); ++r) sum += error_of(row_of(w, r), row_of(v, r), h);
  return sum;
}

}  // namespace molt::testing_compress
