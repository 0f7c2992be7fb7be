#include <cmath>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/select.h"

namespace molt {
namespace {

using RowSum = float (*)(const float* x, std::int64_t n);

RowSum row_sum(const Kernels& kernels, Importance metric) {
  switch (metric) {
    case Importance::clip: return kernels.sum_positive;
    case Importance::l1: return kernels.sum_magnitudes;
    case Importance::l2: return kernels.sum_squares;
    case Importance::signed_mean: return kernels.sum;
  }
  MOLT_CHECK(false);
}

}  // namespace

void CpuBackend::importance(Matrix<const float> y, Importance metric, float* scores) const {
  const RowSum sum = row_sum(select_kernels(), metric);
  parallel_for(y.rows, grain_for(2 * y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float mean = sum(y.row(t), y.cols) / static_cast<float>(y.cols);
      scores[t] = metric == Importance::l2 ? std::sqrt(mean) : mean;
    }
  });
}

}  // namespace molt
