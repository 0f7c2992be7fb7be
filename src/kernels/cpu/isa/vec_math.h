// exp, softplus, silu and square roots of blocks of vectors. Polynomials are minimax fits of the relative error over
// the reduced range.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

inline constexpr float kLog2E = 1.44269504088896341F;

/// Adding it to |x| < 2^22 leaves the nearest integer (ties to even) in the low bits of the sum.
inline constexpr float kRoundingShift = 12582912.0F;  // 1.5 * 2^23

static inline VecF sqrt(VecF x) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecF>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(x)));
#elif defined(__AVX__)
  return reinterpret_cast<VecF>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

/// 2^x for decays, x <= 0 (and up to 127): within 2.1 ulp (2.5 without fused multiply-add) down to 2^-126, below that a
/// value under 2^-126, zero from x = -127 on. A NaN may become a number: the step that the exponent was made of, which
/// callers multiply by as well, is NaN then.
template <int kCount>
[[gnu::always_inline]] static inline Block<kCount> exp2_decay(const Block<kCount>& x) {
  const Block<kCount> bounded = max(x, -127.0F);
  const Block<kCount> shifted = bounded + kRoundingShift;
  const Block<kCount> r = bounded - (shifted - kRoundingShift);
  Block<kCount> p = r * 0x1.5bba14p-10F + 0x1.3cea88p-7F;
  p = p * r + 0x1.c6b752p-5F;
  p = p * r + 0x1.ebf9bcp-3F;
  p = p * r + 0x1.62e42ap-1F;
  p = p * r + 1.0F;
  // The low bits of `shifted` hold the integer; moved to the exponent's place and added to p's bits it multiplies p by
  // that power of two. At -127 p is 1, and exponent and fraction become zero.
  return Block<kCount>::map([&](int i) { return float_of(bits_of(p.v[i]) + (bits_of(shifted.v[i]) << 23)); });
}

[[gnu::always_inline]] static inline VecF exp2_decay(VecF x) {
  return exp2_decay(Block<1>{{x}}).v[0];
}

/// p * 2^n for an integer n (as float and as n + kRoundingShift), rounded once; p in [1/2, 2], |n| <= 160.
[[gnu::always_inline]] static inline VecF times_power_of_two(VecF p, [[maybe_unused]] VecF n,
                                                             [[maybe_unused]] VecF shifted) {
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

/// e^x, within 1.2 ulp, over the whole range with its subnormals, zero and infinity; NaN stays NaN.
template <int kCount>
[[gnu::always_inline]] static inline Block<kCount> exp(const Block<kCount>& x) {
  const Block<kCount> bounded = min(max(x, -105.0F), 89.0F);  // e^-105 rounds to zero, e^89 to infinity
  const Block<kCount> shifted = bounded * kLog2E + kRoundingShift;
  const Block<kCount> n = shifted - kRoundingShift;
  // log(2) in two parts, the first short enough for its product with n to be exact.
  const Block<kCount> r = (bounded - n * 0x1.62e4p-1F) - n * 0x1.7f7d1cp-20F;
  Block<kCount> p = r * 0x1.6a23cep-10F + 0x1.123a2p-7F;
  p = p * r + 0x1.5558f2p-5F;
  p = p * r + 0x1.555492p-3F;
  p = p * r + 0x1.fffffcp-2F;
  p = p * (r * r) + r + 1.0F;
  return Block<kCount>::map([&](int i) { return times_power_of_two(p.v[i], n.v[i], shifted.v[i]); });
}

/// x / (1 + e^-x), within 2.5 ulp; below -88.7, where e^-x is no float any more, zero instead of less than 3e-37.
template <int kCount>
[[gnu::always_inline]] static inline Block<kCount> silu(const Block<kCount>& x) {
  return x / (exp(-x) + 1.0F);
}

/// log(1 + e^x), within 3 ulp on both sides. As max(x, 0) + log1p(e^-|x|), and log1p(u) = 2 atanh(u / (u +
/// 2)).
template <int kCount>
[[gnu::always_inline]] static inline Block<kCount> softplus(const Block<kCount>& x) {
  const Block<kCount> u = exp(Block<kCount>::map([&](int i) { return min(x.v[i], -x.v[i]); }));
  const Block<kCount> s = u / (u + 2.0F);
  const Block<kCount> z = s * s;
  Block<kCount> p = z * 0x1.1ed7bep-2F + 0x1.1ebd0ep-2F;
  p = p * z + 0x1.99d208p-2F;
  p = p * z + 0x1.555502p-1F;
  return max(x, 0.0F) + (s * z * p + (s + s));
}

}  // namespace molt::MOLT_ISA
