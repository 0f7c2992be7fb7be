// Vectors of floats for the kernels that are compiled once per instruction set.
//
// Every source of this folder is compiled several times, each time with other -m flags and with MOLT_ISA naming the
// namespace its code lands in (molt::avx512, molt::avx2, ...). The code is written once, on the compiler's portable vector
// types of that instruction set's width, so it also builds for processors that molt has no flags for.
//
// Rule: these sources include no header with inline functions that other code may use too (no standard containers, no
// templates outside MOLT_ISA's namespace). The linker keeps one copy of such a function for the whole program, and it could
// keep the one with instructions that the machine lacks.
#pragma once

#include <stdint.h>

#ifndef MOLT_ISA
#error "compile with -DMOLT_ISA=<namespace>, as src/kernels/cpu/isa.cmake does"
#endif

namespace molt::MOLT_ISA {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
inline constexpr int kVectorRegisters = 16;
#else
inline constexpr int kLanes = 4;
inline constexpr int kVectorRegisters = 16;
#endif

typedef float VecF __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecI __attribute__((vector_size(kLanes * 4)));
typedef float UnalignedVecF __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

static inline VecF load(const float* at) { return *reinterpret_cast<const UnalignedVecF*>(at); }
static inline void store(float* at, VecF v) { *reinterpret_cast<UnalignedVecF*>(at) = v; }
static inline VecF broadcast(float x) { return x - VecF{}; }
static inline VecF min(VecF a, VecF b) { return a < b ? a : b; }
static inline VecF max(VecF a, VecF b) { return a > b ? a : b; }

/// Loads the first `n` lanes (0 <= n <= kLanes), zeros in the rest.
static inline VecF load_first(const float* at, int n) {
  VecF v{};
  for (int i = 0; i < n; ++i) v[i] = at[i];
  return v;
}
static inline void store_first(float* at, VecF v, int n) {
  for (int i = 0; i < n; ++i) at[i] = v[i];
}

}  // namespace molt::MOLT_ISA
