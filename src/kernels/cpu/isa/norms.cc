#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {
namespace {

/// Sum over [0, n) of value(i, lanes)^2, in four sums side by side.
template <class Value>
__attribute__((always_inline)) inline float sum_of_squares(int64_t n, Value value) {
  VecF s0{}, s1{}, s2{}, s3{};
  constexpr Whole<kLanes> whole;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    const VecF v0 = value(i, whole), v1 = value(i + kLanes, whole);
    const VecF v2 = value(i + 2 * kLanes, whole), v3 = value(i + 3 * kLanes, whole);
    s0 += v0 * v0;
    s1 += v1 * v1;
    s2 += v2 * v2;
    s3 += v3 * v3;
  }
  for (; i + kLanes <= n; i += kLanes) {
    const VecF v = value(i, whole);
    s0 += v * v;
  }
  if (i < n) {
    const VecF v = value(i, static_cast<int>(n - i));
    s1 += v * v;
  }
  return sum_of((s0 + s1) + (s2 + s3));
}

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
  const float sum = sum_of_squares(n, [=](int64_t i, auto lanes) { return at(x + i, lanes); });
  scale_row(x, inverse_rms(sum, n, eps), weight, y, n);
}

void add_rms_norm(float* residual, const float* h, const float* weight, float eps, float* y, int64_t n) {
  const float sum = sum_of_squares(n, [=](int64_t i, auto lanes) {
    const VecF v = at(residual + i, lanes) + at(h + i, lanes);
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
  const float sum = sum_of_squares(n, [=](int64_t i, auto lanes) {
    const VecF v = at(x + i, lanes) * silu(at(z + i, lanes));
    put(y + i, v, lanes);
    return v;
  });
  scale_row(y, inverse_rms(sum, n, eps), weight, y, n);
}

}  // namespace molt::MOLT_ISA
