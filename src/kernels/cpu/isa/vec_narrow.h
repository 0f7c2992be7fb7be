// Numbers of 8 and 16 bits, read into lanes of 32 and back.
//
// By instructions called by name: what GCC 12 makes of __builtin_convertvector() takes the lanes apart, some of them
// one by one. AVX-512's are used in forms that mask no lane, because GCC 12 warns of the others.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

typedef uint8_t VecU8 __attribute__((vector_size(kLanes)));
typedef uint16_t VecU16 __attribute__((vector_size(kLanes * 2)));
typedef uint32_t VecU32 __attribute__((vector_size(kLanes * 4)));

/// kLanes bytes from any address.
static inline VecU32 widen_u8(const void* from) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecU32>(
      _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(static_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
  return reinterpret_cast<VecU32>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))));
#else
  VecU8 bytes;
  __builtin_memcpy(&bytes, from, sizeof(bytes));
  return __builtin_convertvector(bytes, VecU32);
#endif
}

static inline VecU32 widen(VecU16 lanes) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecU32>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(lanes)));
#elif defined(__AVX2__)
  return reinterpret_cast<VecU32>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(lanes)));
#else
  return __builtin_convertvector(lanes, VecU32);
#endif
}

/// The low halves.
static inline VecU16 narrow(VecU32 lanes) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecU16>(_mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(lanes)));
#else
  return __builtin_convertvector(lanes, VecU16);
#endif
}

/// kLanes numbers of 16 bits from any address, or the first `lanes`, zeros behind them.
static inline VecU32 load_u16(const void* from, Whole) {
  VecU16 bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return widen(bits);
}
static inline VecU32 load_u16(const void* from, int lanes) {
  VecU16 bits{};
  __builtin_memcpy(&bits, from, 2 * static_cast<uint64_t>(lanes));
  return widen(bits);
}

/// The low halves, to any address.
static inline void store_u16(void* to, VecU32 v, Whole) {
  const VecU16 bits = narrow(v);
  __builtin_memcpy(to, &bits, sizeof(bits));
}
static inline void store_u16(void* to, VecU32 v, int lanes) {
  const VecU16 bits = narrow(v);
  __builtin_memcpy(to, &bits, 2 * static_cast<uint64_t>(lanes));
}

}  // namespace molt::MOLT_ISA
