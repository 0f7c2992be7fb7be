#include "kernels/cpu/isa/sums.h"

#include "kernels/cpu/isa/ops.h"

namespace molt::MOLT_ISA {
namespace {

/// Sum of f(x) over a row.
template <class Function>
[[gnu::always_inline]] inline float sum_of_each(const float* x, int64_t n, Function f) {
  return sum_by(
      n, [=](int64_t i, auto count, auto lanes) { return block_at<count.value>(x + i, lanes); },
      [=](VecF& sum, VecF v) { sum += f(v); });
}

}  // namespace

float sum(const float* x, int64_t n) {
  return sum_of_each(x, n, [](VecF v) { return v; });
}

float sum_positive(const float* x, int64_t n) {
  return sum_of_each(x, n, [](VecF v) { return max(v, VecF{}); });
}

float sum_magnitudes(const float* x, int64_t n) {
  return sum_of_each(x, n, [](VecF v) { return float_of(bits_of(v) & 0x7fffffff); });
}

float sum_squares(const float* x, int64_t n) {
  return sum_of_squares(n, [=](int64_t i, auto count, auto lanes) { return block_at<count.value>(x + i, lanes); });
}

float sum_products(const float* x, float x_factor, const float* y, float y_factor, int64_t n) {
  return sum_by(
      n,
      [=](int64_t i, auto count, auto lanes) {
        return block_at<count.value>(x + i, lanes) * x_factor * (block_at<count.value>(y + i, lanes) * y_factor);
      },
      [](VecF& sum, VecF v) { sum += v; });
}

}  // namespace molt::MOLT_ISA
