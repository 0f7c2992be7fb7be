#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {

void exp(const float* x, float* y, int64_t n) {
  for_vectors(n, [=](int64_t i, auto lanes) { put(y + i, exp(at(x + i, lanes)), lanes); });
}

void silu_gate(const float* x, const float* z, float* y, int64_t n) {
  for_vectors(n, [=](int64_t i, auto lanes) { put(y + i, at(x + i, lanes) * silu(at(z + i, lanes)), lanes); });
}

void softplus(const float* x, const float* bias, float low, float high, float* y, int64_t n) {
  for_vectors(n, [=](int64_t i, auto lanes) {
    VecF v = at(x + i, lanes);
    if (bias != nullptr) v += at(bias + i, lanes);
    put(y + i, min(max(softplus(v), broadcast(low)), broadcast(high)), lanes);
  });
}

}  // namespace molt::MOLT_ISA
