#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {

void CpuBackend::rms_norm(Matrix<const float> x, const float* weight, float eps, Matrix<float> y) const {
  shapes::check_same(x, y);
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(6 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.rms_norm(x.row(t), weight, eps, y.row(t), x.cols);
  });
}

void CpuBackend::add_rms_norm(Matrix<float> residual, Matrix<const float> h, const float* weight, float eps,
                              Matrix<float> y) const {
  shapes::check_same(residual, h);
  shapes::check_same(residual, y);
  const Kernels& kernels = select_kernels();
  parallel_for(h.rows, grain_for(8 * h.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      kernels.add_rms_norm(residual.row(t), h.row(t), weight, eps, y.row(t), h.cols);
    }
  });
}

void CpuBackend::gated_rms_norm(Matrix<const float> x, Matrix<const float> z, const float* weight, float eps,
                                std::int64_t group, bool norm_before_gate, Matrix<float> y) const {
  shapes::check_gated_rms_norm(x, z, group, y);
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(25 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t c = 0; c < x.cols; c += group) {
        kernels.gated_rms_norm(x.row(t) + c, z.row(t) + c, weight == nullptr ? nullptr : weight + c, eps,
                               norm_before_gate, y.row(t) + c, group);
      }
    }
  });
}

void CpuBackend::layer_norm(Matrix<const float> x, const float* weight, const float* bias, float eps,
                            Matrix<float> y) const {
  shapes::check_same(x, y);
  const Kernels& kernels = select_kernels();
  parallel_for(x.rows, grain_for(9 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.layer_norm(x.row(t), weight, bias, eps, y.row(t), x.cols);
  });
}

}  // namespace molt
