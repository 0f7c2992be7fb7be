#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/vec_math.h"

namespace molt::MOLT_ISA {

void exp(const float* x, float* y, int64_t n) {
  for_blocks(n,
             [=](int64_t i, auto count, auto lanes) { put(y + i, exp(block_at<count.value>(x + i, lanes)), lanes); });
}

void exp2_decay(const float* x, float* y, int64_t n) {
  for_blocks(n, [=](int64_t i, auto count, auto lanes) {
    put(y + i, exp2_decay(block_at<count.value>(x + i, lanes)), lanes);
  });
}

void silu_gate(const float* x, const float* z, float* y, int64_t n) {
  for_blocks(n, [=](int64_t i, auto count, auto lanes) {
    put(y + i, block_at<count.value>(x + i, lanes) * silu(block_at<count.value>(z + i, lanes)), lanes);
  });
}

void softplus(const float* x, const float* bias, float low, float high, float* y, int64_t n) {
  for_blocks(n, [=](int64_t i, auto count, auto lanes) {
    auto v = block_at<count.value>(x + i, lanes);
    if (bias != nullptr) v = v + block_at<count.value>(bias + i, lanes);
    put(y + i, min(max(softplus(v), low), high), lanes);
  });
}

}  // namespace molt::MOLT_ISA
