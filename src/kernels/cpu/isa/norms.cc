#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/sums.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

inline float inverse_rms(float sum, int64_t n, float eps) {
  return 1.0F / __builtin_sqrtf(sum / static_cast<float>(n) + eps);
}

/// y = x * scale (* weight).
inline void scale_row(const float* x, float scale, const float* weight, float* y, int64_t n) {
  if (weight == nullptr) {
    for_vectors(n, [=](int64_t i, auto lanes) { put(y + i, at(x + i, lanes) * scale, lanes); });
  } else {
    for_vectors(n, [=](int64_t i, auto lanes) { put(y + i, at(x + i, lanes) * scale * at(weight + i, lanes), lanes); });
  }
}

}  // namespace

void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t n) {
  const float sum =
      sum_of_squares(n, [=](int64_t i, auto count, auto lanes) { return block_at<count.value>(x + i, lanes); });
  scale_row(x, inverse_rms(sum, n, eps), weight, y, n);
}

void add_rms_norm(float* residual, const float* h, const float* weight, float eps, float* y, int64_t n) {
  const float sum = sum_of_squares(n, [=](int64_t i, auto count, auto lanes) {
    const auto v = block_at<count.value>(residual + i, lanes) + block_at<count.value>(h + i, lanes);
    put(residual + i, v, lanes);
    return v;
  });
  scale_row(residual, inverse_rms(sum, n, eps), weight, y, n);
}

void gated_rms_norm(const float* x, const float* z, const float* weight, float eps, bool norm_before_gate, float* y,
                    int64_t n) {
  if (norm_before_gate) {
    rms_norm(x, weight, eps, y, n);
    silu_gate(y, z, y, n);
    return;
  }
  const float sum = sum_of_squares(n, [=](int64_t i, auto count, auto lanes) {
    const auto v = block_at<count.value>(x + i, lanes) * silu(block_at<count.value>(z + i, lanes));
    put(y + i, v, lanes);
    return v;
  });
  scale_row(y, inverse_rms(sum, n, eps), weight, y, n);
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* y, int64_t n) {
  const float mean = sum(x, n) / static_cast<float>(n);
  // Distances are written before they are summed: lanes beyond the row's end are read as zeros then.
  for_vectors(n, [=](int64_t i, auto lanes) { put(y + i, at(x + i, lanes) - mean, lanes); });
  const float rest = sum(y, n) / static_cast<float>(n);  // what the mean's rounding left
  const float scale = inverse_rms(sum_squares(y, n) - static_cast<float>(n) * rest * rest, n, eps);
  for_vectors(n, [=](int64_t i, auto lanes) {
    put(y + i, (at(y + i, lanes) - rest) * scale * at(weight + i, lanes) + at(bias + i, lanes), lanes);
  });
}

}  // namespace molt::MOLT_ISA
