// What logits say of the next token: exponentials by the vector kernels, a block at a time, blocks added in double.
#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/greatest.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

constexpr std::int64_t kBlock = 512;

/// Sum over blocks of [0, n) of what `fill(begin, count, values)` puts into values [count].
template <class Fill>
double sum_of_blocks(const Kernels& kernels, std::int64_t n, Fill fill) {
  float values[kBlock];
  double sum = 0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    fill(begin, count, values);
    sum += static_cast<double>(kernels.sum(values, count));
  }
  return sum;
}

}  // namespace

void CpuBackend::log_sum_exp(Matrix<const float> x, double* sums) const {
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(12 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const row = x.row(t);
      const float largest = greatest(row, x.cols);
      const double sum = sum_of_blocks(kernels, x.cols, [&](std::int64_t at, std::int64_t count, float* values) {
        for (std::int64_t i = 0; i < count; ++i) values[i] = row[at + i] - largest;
        kernels.exp(values, values, count);
      });
      sums[t] = static_cast<double>(largest) + std::log(sum);
    }
  });
}

void CpuBackend::divergence(Matrix<const float> p, Matrix<const float> q, double* sums) const {
  shapes::check_divergence(p, q);
  const Kernels& kernels = select_kernels();
  parallel_for(p.rows, grain_for(14 * p.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const a = p.row(t);
      const float* const b = q.row(t);
      sums[t] = sum_of_blocks(kernels, p.cols, [&](std::int64_t at, std::int64_t count, float* values) {
        kernels.exp(a + at, values, count);
        for (std::int64_t i = 0; i < count; ++i) values[i] *= a[at + i] - b[at + i];
      });
    }
  });
}

}  // namespace molt
