#include <algorithm>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {

void CpuBackend::silu_gate(Matrix<const float> x, Matrix<const float> z, Matrix<float> y) const {
  shapes::check_same(x, z);
  shapes::check_same(x, y);
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(20 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.silu_gate(x.row(t), z.row(t), y.row(t), x.cols);
  });
}

void CpuBackend::relu(Matrix<const float> x, Matrix<float> y) const {
  shapes::check_same(x, y);
  parallel_for(x.rows, grain_for(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::transform(x.row(t), x.row(t) + x.cols, y.row(t), [](float v) { return v < 0 ? 0 : v; });
    }
  });
}

void CpuBackend::softplus(Matrix<const float> x, const float* bias, float low, float high, Matrix<float> y) const {
  shapes::check_same(x, y);
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(30 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.softplus(x.row(t), bias, low, high, y.row(t), x.cols);
  });
}

}  // namespace molt
