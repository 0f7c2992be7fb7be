// Vectors of floats for the kernels that are compiled once per instruction set.
//
// Every source of this folder is compiled several times, each time with other -m flags and with MOLT_ISA naming the
// namespace its code lands in (molt::avx512, molt::avx2, ...). The code is written once, on the compiler's portable
// vector types of that instruction set's width, so it also builds for processors that molt has no flags for.
//
// Rule: these sources include no header with inline functions that other code may use too (no standard containers, no
// templates outside MOLT_ISA's namespace). The linker keeps one copy of such a function for the whole program, and it
// could keep the one with instructions that the machine lacks.
#pragma once

#include <stdint.h>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#ifndef MOLT_ISA
#error "compile with -DMOLT_ISA=<namespace>, as src/kernels/cpu/isa.cmake does"
#endif

// Unrolls the following loop whole, its trip count being a small constant; or not at all.
#if defined(__clang__)
#define MOLT_UNROLL _Pragma("clang loop unroll(full)")
#define MOLT_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define MOLT_UNROLL _Pragma("GCC unroll 32")
#define MOLT_NO_UNROLL _Pragma("GCC unroll 1")
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
#if defined(__aarch64__)
inline constexpr int kVectorRegisters = 32;
#else
inline constexpr int kVectorRegisters = 16;
#endif
#endif

typedef float VecF __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecI __attribute__((vector_size(kLanes * 4)));
typedef float UnalignedVecF __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

static inline VecF load(const float* at) {
  return *reinterpret_cast<const UnalignedVecF*>(at);
}
static inline void store(float* at, VecF v) {
  *reinterpret_cast<UnalignedVecF*>(at) = v;
}
static inline VecF broadcast(float x) {
  return x - VecF{};
}
/// The lesser or greater of each pair of lanes; where a lane of `a` is not a number, so is the result's. The
/// processor's own instructions give their second operand then; compilers do not find them in a comparison and a
/// choice.
#if defined(__AVX512F__)
static inline VecF min(VecF a, VecF b) {
  return reinterpret_cast<VecF>(_mm512_maskz_min_ps(0xffff, b, a));
}
static inline VecF max(VecF a, VecF b) {
  return reinterpret_cast<VecF>(_mm512_maskz_max_ps(0xffff, b, a));
}
#elif defined(__AVX__)
static inline VecF min(VecF a, VecF b) {
  return reinterpret_cast<VecF>(_mm256_min_ps(b, a));
}
static inline VecF max(VecF a, VecF b) {
  return reinterpret_cast<VecF>(_mm256_max_ps(b, a));
}
#else
static inline VecF min(VecF a, VecF b) {
  return b < a ? b : a;
}
static inline VecF max(VecF a, VecF b) {
  return b > a ? b : a;
}
#endif

static inline VecI bits_of(VecF v) {
  return reinterpret_cast<VecI>(v);
}
static inline VecF float_of(VecI v) {
  return reinterpret_cast<VecF>(v);
}

/// 0, 1, 2, ...
static inline VecI lane_numbers() {
  VecI v{};
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

/// Loads the first `n` lanes (0 <= n <= kLanes), zeros in the rest.
static inline VecF load_first(const float* at, int n) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecF>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << n) - 1U), at));
#elif defined(__AVX2__)
  return reinterpret_cast<VecF>(_mm256_maskload_ps(at, reinterpret_cast<__m256i>(lane_numbers() < n)));
#else
  VecF v{};
  for (int i = 0; i < n; ++i) v[i] = at[i];
  return v;
#endif
}

static inline void store_first(float* at, VecF v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(at, static_cast<__mmask16>((1U << n) - 1U), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_maskstore_ps(at, reinterpret_cast<__m256i>(lane_numbers() < n), reinterpret_cast<__m256>(v));
#else
  for (int i = 0; i < n; ++i) at[i] = v[i];
#endif
}

/// Sum of all lanes, as a tree.
static inline float sum_of(VecF v) {
  float lanes[kLanes];
  store(lanes, v);
  MOLT_UNROLL
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

/// A count known at compile time.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/// All lanes of a vector; converts to their number. at() and put() take it or an int that counts the first lanes.
struct Whole {
  constexpr operator int() const { return kLanes; }  // NOLINT(google-explicit-constructor)
};
static inline VecF at(const float* from, Whole) {
  return load(from);
}
static inline VecF at(const float* from, int lanes) {
  return load_first(from, lanes);
}
static inline void put(float* to, VecF v, Whole) {
  store(to, v);
}
static inline void put(float* to, VecF v, int lanes) {
  store_first(to, v, lanes);
}

/// Several vectors side by side. An expression of blocks takes all of them through one operation before the next: the
/// processor's window is shorter than the latencies of one vector's whole exponential, so that one vector after another
/// would leave it idle.
template <int kCount>
struct Block {
  VecF v[kCount];

  [[gnu::always_inline]] static Block fill(float x) {
    return map([x](int) { return broadcast(x); });
  }
  template <class Function>
  [[gnu::always_inline]] static Block map(Function f) {
    Block result;
    MOLT_UNROLL
    for (int i = 0; i < kCount; ++i) result.v[i] = f(i);
    return result;
  }
  [[gnu::always_inline]] friend Block operator-(const Block& a) {
    return map([&](int i) { return -a.v[i]; });
  }
  [[gnu::always_inline]] friend Block operator+(const Block& a, const Block& b) {
    return map([&](int i) { return a.v[i] + b.v[i]; });
  }
  [[gnu::always_inline]] friend Block operator-(const Block& a, const Block& b) {
    return map([&](int i) { return a.v[i] - b.v[i]; });
  }
  [[gnu::always_inline]] friend Block operator*(const Block& a, const Block& b) {
    return map([&](int i) { return a.v[i] * b.v[i]; });
  }
  [[gnu::always_inline]] friend Block operator/(const Block& a, const Block& b) {
    return map([&](int i) { return a.v[i] / b.v[i]; });
  }
  [[gnu::always_inline]] friend Block operator+(const Block& a, float b) { return a + fill(b); }
  [[gnu::always_inline]] friend Block operator-(const Block& a, float b) { return a - fill(b); }
  [[gnu::always_inline]] friend Block operator*(const Block& a, float b) { return a * fill(b); }
  [[gnu::always_inline]] friend Block min(const Block& a, float b) {
    return map([&](int i) { return min(a.v[i], broadcast(b)); });
  }
  [[gnu::always_inline]] friend Block max(const Block& a, float b) {
    return map([&](int i) { return max(a.v[i], broadcast(b)); });
  }
};

/// Vectors that loops over rows take side by side.
inline constexpr int kBlock = kVectorRegisters == 32 ? 4 : 2;

template <int kCount, class Lanes>
[[gnu::always_inline]] static inline Block<kCount> block_at(const float* from, Lanes lanes) {
  return Block<kCount>::map([=](int i) { return at(from + i * kLanes, lanes); });
}
template <int kCount, class Lanes>
[[gnu::always_inline]] static inline void put(float* to, const Block<kCount>& block, Lanes lanes) {
  MOLT_UNROLL
  for (int i = 0; i < kCount; ++i) put(to + i * kLanes, block.v[i], lanes);
}

/// Calls body(i, Constant<vectors>, lanes) for the blocks that cover [0, n): of kBlock whole vectors, of one, and last
/// of one that is not whole.
template <class Body>
[[gnu::always_inline]] static inline void for_blocks(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kBlock * kLanes <= n; i += kBlock * kLanes) body(i, Constant<kBlock>{}, Whole{});
  for (; i + kLanes <= n; i += kLanes) body(i, Constant<1>{}, Whole{});
  if (i < n) body(i, Constant<1>{}, static_cast<int>(n - i));
}

/// Calls body(i, lanes) for the vectors that cover [0, n).
template <class Body>
[[gnu::always_inline]] static inline void for_vectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, Whole{});
  if (i < n) body(i, static_cast<int>(n - i));
}

}  // namespace molt::MOLT_ISA
