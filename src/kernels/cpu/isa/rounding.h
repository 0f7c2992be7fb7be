// Rounding to bfloat16, to nearest and ties to even; a NaN stays one.
#pragma once

#include "kernels/cpu/isa/panel_gemm.h"
#include "kernels/cpu/isa/vec_narrow.h"

namespace molt::MOLT_ISA {

#if defined(__AVX512BF16__)
/// The bits of x in bfloat16. Subnormal numbers become zeros, which is what the products' instructions take them for.
static inline VecU16 rounded_bits(VecF x) {
  return reinterpret_cast<VecU16>(_mm512_maskz_cvtneps_pbh(0xffff, reinterpret_cast<__m512>(x)));
}

/// Stores `lanes` of x as round_row() does.
template <class Lanes>
static inline void store_rounded(Rounded* to, VecF x, Lanes lanes) {
  const VecU16 bits = rounded_bits(x);
  __builtin_memcpy(to, &bits, sizeof(Rounded) * static_cast<uint64_t>(lanes));
}
#else
static inline VecF rounded(VecF x) {
  const VecI bits = bits_of(x);
  const VecI upper = ~0xffff - VecI{};
  const VecI nearest = (bits + 0x7fff + ((bits >> 16) & 1)) & upper;
  const VecI is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return float_of((is_nan & ((bits | 0x400000) & upper)) | (~is_nan & nearest));
}

/// The bits of x in bfloat16.
static inline VecU16 rounded_bits(VecF x) {
  return narrow(reinterpret_cast<VecU32>(rounded(x)) >> 16);
}

/// Stores `lanes` of x as round_row() does.
template <class Lanes>
static inline void store_rounded(Rounded* to, VecF x, Lanes lanes) {
  put(to, rounded(x), lanes);
}
#endif

}  // namespace molt::MOLT_ISA
