// exp, softplus and silu of vectors. Polynomials are minimax fits of the relative error over the reduced range.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

inline constexpr float kLog2E = 1.44269504088896341F;

/// Adding it to |x| < 2^22 leaves the nearest integer (ties to even) in the low bits of the sum.
inline constexpr float kRoundingShift = 12582912.0F;  // 1.5 * 2^23

/// x[i] <- 2^x[i] for decays, x <= 0 (and up to 127): within 2 ulp down to 2^-126, below that a value under 2^-126,
/// zero from x = -127 on. Several vectors side by side, step by step, because a processor's window is shorter than the
/// latencies of one after another.
template <int kCount>
__attribute__((always_inline)) static inline void exp2_decay(VecF (&x)[kCount]) {
  VecF r[kCount], p[kCount];
  VecI exponent[kCount];
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const VecF bounded = max(x[i], broadcast(-127.0F));
    const VecF shifted = bounded + kRoundingShift;
    r[i] = bounded - (shifted - kRoundingShift);
    // The low bits of `shifted` hold the integer; moved to the exponent's place and added to p's bits it multiplies p
    // by that power of two. At -127 p is 1, and exponent and fraction become zero.
    exponent[i] = bits_of(shifted) << 23;
  }
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = r[i] * 0x1.5bba14p-10F + 0x1.3cea88p-7F;
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = p[i] * r[i] + 0x1.c6b752p-5F;
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = p[i] * r[i] + 0x1.ebf9bcp-3F;
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = p[i] * r[i] + 0x1.62e42ap-1F;
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = p[i] * r[i] + 1.0F;
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) x[i] = float_of(bits_of(p[i]) + exponent[i]);
}

static inline VecF exp2_decay(VecF x) {
  VecF one[1] = {x};
  exp2_decay(one);
  return one[0];
}

/// p * 2^n for an integer n (as float and as bits of n + kRoundingShift), rounded once; p in [1/2, 2], |n| <= 160.
static inline VecF times_power_of_two(VecF p, [[maybe_unused]] VecF n, [[maybe_unused]] VecF shifted) {
#if defined(__AVX512F__)
  // With an explicit full mask: gcc 12 warns of its own header's undefined vector in the form without one.
  return reinterpret_cast<VecF>(
      _mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
  // In two factors, because 2^n itself may be no normal float.
  const VecI exponent = bits_of(shifted) - 0x4b400000;
  const VecI half = exponent >> 1;
  return p * float_of((half + 127) << 23) * float_of((exponent - half + 127) << 23);
#endif
}

/// e^x, within 2 ulp, over the whole range with its subnormals, zero and infinity; NaN stays NaN.
static inline VecF exp(VecF x) {
  x = min(max(x, broadcast(-105.0F)), broadcast(89.0F));  // e^-105 rounds to zero, e^89 to infinity
  const VecF shifted = x * kLog2E + kRoundingShift;
  const VecF n = shifted - kRoundingShift;
  // log(2) in two parts, the first short enough for its product with n to be exact.
  const VecF r = (x - n * 0x1.62e4p-1F) - n * 0x1.7f7d1cp-20F;
  VecF p = r * 0x1.6a23cep-10F + 0x1.123a2p-7F;
  p = p * r + 0x1.5558f2p-5F;
  p = p * r + 0x1.555492p-3F;
  p = p * r + 0x1.fffffcp-2F;
  p = p * (r * r) + r;
  return times_power_of_two(p + 1.0F, n, shifted);
}

/// x / (1 + e^-x).
static inline VecF silu(VecF x) {
  return x / (exp(-x) + 1.0F);
}

/// log(1 + e^x), relative error below 1e-6 on both sides. As max(x, 0) + log1p(e^-|x|), and log1p(u) = 2 atanh(u / (u +
/// 2)).
static inline VecF softplus(VecF x) {
  const VecF zero{};
  const VecF u = exp(x < zero ? x : -x);
  const VecF s = u / (u + 2.0F);
  const VecF z = s * s;
  VecF p = z * 0x1.1ed7bep-2F + 0x1.1ebd0ep-2F;
  p = p * z + 0x1.99d208p-2F;
  p = p * z + 0x1.555502p-1F;
  const VecF log1p = s * z * p + (s + s);
  return max(x, zero) + log1p;
}

}  // namespace molt::MOLT_ISA
