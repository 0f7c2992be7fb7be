// Matrix products with quantized weights, in integers: what panel_gemm.cc is for floats.
//
//   y[t, n] = sum over blocks b of columns:  ws[n, g] * xs[t, b] * (sum over k in b of w[n, k] * x[t, k] - z[n, g] * X)
//
// w, z: codes and zero points of the weights, ws their scales (group g holds block b); x, xs: codes and scales of the
// inputs; X the sum of a block's x. What stands in brackets is an exact integer below 2^22. It is summed in a register
// tile of rows by vectors of outputs, begun at -z * X; a block's end adds it, scaled, to float sums in the level-1
// cache. A tile passes over its panel once: for up to kMaxRows rows weights are read once, in the order they lie in
// memory. The float sums run over the blocks in order, so that a row's result does not depend on the other rows.
#include "kernels/cpu/isa/quantized_gemm.h"

#include "kernels/cpu/isa/vec_narrow.h"

namespace molt::MOLT_ISA {
namespace {

typedef int32_t UnalignedVecI __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr int kLineBytes = 64;

// Inputs whose blocks are all smaller than this count as zeros: 127 / largest could overflow.
constexpr float kLeastMagnitude = 1e-30F;

// The last passes over a panel fetch the next one, a line a step (a step is 4 lines). With fewer passes memory is
// waited for anyway, and the hardware follows it.
constexpr int64_t kFetchingPasses = 4;

// A single pass over a panel fetches so far ahead of itself. Measured; from 4 KB on it is slower by 8%.
constexpr int64_t kBytesAhead = 3072;

// Rows by vectors of a full tile.
#if defined(__AVX512F__)
constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 4;
#elif defined(__AVX2__)
constexpr int kMaxRows = 4;
constexpr int kMaxVectors = 2;
#else
constexpr int kMaxRows = 2;
constexpr int kMaxVectors = 4;
#endif

[[maybe_unused]] inline VecI broadcast_int(int32_t value) {
  return value - VecI{};
}

// How this instruction set sums a block: Sums, what they begin with, and four columns of codes more. A lane of `w`
// holds those of one output, as unsigned bytes.

#if defined(__AVX512VNNI__)

using Sums = VecI;

/// zeros * factor; both fit 16 bits.
inline Sums zero_term(VecI zeros, int32_t factor) {
  return reinterpret_cast<VecI>(_mm512_dpwssd_epi32(_mm512_setzero_si512(), reinterpret_cast<__m512i>(zeros),
                                                    reinterpret_cast<__m512i>(broadcast_int(factor))));
}

template <int R, int V>
inline void add_columns(const VecI (&w)[V], const Code* x, int64_t x_stride, Sums (&sum)[R][V]) {
  MOLT_UNROLL
  for (int r = 0; r < R; ++r) {
    int32_t four;
    __builtin_memcpy(&four, reinterpret_cast<const char*>(x) + r * x_stride, sizeof(four));
    const auto a = reinterpret_cast<__m512i>(broadcast_int(four));
    MOLT_UNROLL
    for (int v = 0; v < V; ++v) {
      sum[r][v] = reinterpret_cast<VecI>(
          _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum[r][v]), reinterpret_cast<__m512i>(w[v]), a));
    }
  }
}

#elif defined(__AVX2__)

using Sums = VecI;

/// Of each lane the sum of the products of its two halves.
inline VecI multiply_pairs(VecI a, VecI b) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecI>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#else
  return reinterpret_cast<VecI>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#endif
}

inline Sums zero_term(VecI zeros, int32_t factor) {
  return multiply_pairs(zeros, broadcast_int(factor));
}

/// Columns 0 and 2 of the four are multiplied together, then 1 and 3; x holds them in that order. (The instruction that
/// multiplies bytes would saturate.)
template <int R, int V>
inline void add_columns(const VecI (&w)[V], const Code* x, int64_t x_stride, Sums (&sum)[R][V]) {
  MOLT_UNROLL
  for (int odd = 0; odd < 2; ++odd) {
    VecI halves[V];
    MOLT_UNROLL
    for (int v = 0; v < V; ++v) halves[v] = (w[v] >> (8 * odd)) & 0x00ff00ff;
    MOLT_UNROLL
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, reinterpret_cast<const char*>(x + 2 * odd) + r * x_stride, sizeof(pair));
      const VecI a = broadcast_int(pair);
      MOLT_UNROLL
      for (int v = 0; v < V; ++v) sum[r][v] += multiply_pairs(halves[v], a);
    }
  }
}

#else

using Sums = VecF;  // whole numbers below 2^24

inline Sums zero_term(VecI zeros, int32_t factor) {
  return __builtin_convertvector(zeros, VecF) * static_cast<float>(factor);
}

template <int R, int V>
inline void add_columns(const VecI (&w)[V], const Code* x, int64_t x_stride, Sums (&sum)[R][V]) {
  MOLT_UNROLL
  for (int i = 0; i < 4; ++i) {
    VecF column[V];
    MOLT_UNROLL
    for (int v = 0; v < V; ++v) column[v] = __builtin_convertvector((w[v] >> (8 * i)) & 0xff, VecF);
    MOLT_UNROLL
    for (int r = 0; r < R; ++r) {
      const auto* row = reinterpret_cast<const Code*>(reinterpret_cast<const char*>(x) + r * x_stride);
      MOLT_UNROLL
      for (int v = 0; v < V; ++v) sum[r][v] += column[v] * row[i];
    }
  }
}

#endif

[[maybe_unused]] inline VecF as_float(VecI sums) {
  return __builtin_convertvector(sums, VecF);
}
[[maybe_unused]] inline VecF as_float(VecF sums) {
  return sums;
}

inline VecI load_step(const char* at) {
  return *reinterpret_cast<const UnalignedVecI*>(at);
}

/// A step of weights of 8 bits: four columns.
template <int kBlockColumns>
struct Int8 {
  static constexpr int kBlock = kBlockColumns;
  static constexpr int kStepColumns = 4;
  static constexpr bool kScaledAtEnd = true;

  template <int R, int V>
  static inline void add(const char* step, const Code* x, int64_t x_stride, Sums (&sum)[R][V]) {
    VecI w[V];
    MOLT_UNROLL
    for (int v = 0; v < V; ++v) w[v] = load_step(step + v * kLanes * 4);
    add_columns(w, x, x_stride, sum);
  }
};

/// A step of weights of 4 bits: eight columns, the first four in the lower halves of the bytes.
template <int kBlockColumns>
struct Int4 {
  static constexpr int kBlock = kBlockColumns;
  static constexpr int kStepColumns = 8;
  static constexpr bool kScaledAtEnd = false;

  template <int R, int V>
  static inline void add(const char* step, const Code* x, int64_t x_stride, Sums (&sum)[R][V]) {
    MOLT_UNROLL
    for (int upper = 0; upper < 2; ++upper) {
      VecI w[V];
      MOLT_UNROLL
      for (int v = 0; v < V; ++v) w[v] = (load_step(step + v * kLanes * 4) >> (4 * upper)) & 0x0f0f0f0f;
      add_columns(w, x + 4 * upper, x_stride, sum);
    }
  }
};

inline VecF load_scales(const char* at) {
  return reinterpret_cast<VecF>(load_u16(at, Whole{}) << 16);
}

inline VecI load_zeros(const char* at) {
  return reinterpret_cast<VecI>(widen_u8(at));
}

/// What a tile reads and writes.
struct Tile {
  const char* x;
  int64_t x_stride;
  const char* panel;
  int64_t first;  // output of the panel
  int64_t groups;
  int64_t group_blocks;
  const char* wanted;     // memory that is wanted next, to be fetched meanwhile:
  int64_t wanted_stride;  // bytes of it a step, 0 for none
  bool looks_ahead;       // whether the panel itself is fetched
  float* sums;            // [rows, kPanelOutputs], added to
};

/// Fetches kBytes, whole lines.
template <int kBytes>
inline void fetch(const char* at) {
  static_assert(kBytes % kLineBytes == 0);
  MOLT_UNROLL
  for (int i = 0; i < kBytes; i += kLineBytes) __builtin_prefetch(at + i, 0, 2);
}

template <class Format, int R, int V, bool kLooksAhead>
void run_tile(const Tile& tile) {
  constexpr int kSteps = Format::kBlock / Format::kStepColumns;
  constexpr int64_t kBlockBytes = static_cast<int64_t>(sizeof(BlockHead)) + Format::kBlock * sizeof(Code);
  const char* x = tile.x;
  const int64_t x_stride = tile.x_stride;
  const char* panel = tile.panel;
  const char* wanted = tile.wanted;
  for (int64_t g = 0; g < tile.groups; ++g) {
    const char* const scales = panel + tile.first * 2;
    const char* const zeros = panel + kPanelOutputs * 2 + tile.first;
    if constexpr (kLooksAhead) fetch<kGroupHeadBytes>(panel + kBytesAhead);
    panel += kGroupHeadBytes;
    for (int64_t b = 0; b < tile.group_blocks; ++b) {
      Sums sum[R][V];
      MOLT_UNROLL
      for (int v = 0; v < V; ++v) {
        const VecI z = load_zeros(zeros + v * kLanes);
        MOLT_UNROLL
        for (int r = 0; r < R; ++r) {
          sum[r][v] = zero_term(z, reinterpret_cast<const BlockHead*>(x + r * x_stride)->negative_sum);
        }
      }
      const auto* codes = reinterpret_cast<const Code*>(x + sizeof(BlockHead));
      for (int step = 0; step < kSteps; ++step) {
        __builtin_prefetch(wanted, 0, 2);
        wanted += tile.wanted_stride;
        if constexpr (kLooksAhead) fetch<kPanelStepBytes>(panel + kBytesAhead);
        Format::add(panel + tile.first * 4, codes, x_stride, sum);
        panel += kPanelStepBytes;
        codes += Format::kStepColumns;
      }
      MOLT_UNROLL
      for (int v = 0; v < V; ++v) {
        MOLT_UNROLL
        for (int r = 0; r < R; ++r) {
          float* const to = tile.sums + r * kPanelOutputs + v * kLanes;
          VecF scale = broadcast(reinterpret_cast<const BlockHead*>(x + r * x_stride)->scale);
          if constexpr (!Format::kScaledAtEnd) scale *= load_scales(scales + v * kLanes * 2);
          store(to, load(to) + as_float(sum[r][v]) * scale);
        }
      }
      x += kBlockBytes;
    }
  }
}

/// run_tile<Format, rows, V> for a number of rows known only at run time.
template <class Format, int V, int R = kMaxRows>
void run_tile_of(int rows, const Tile& tile) {
  if constexpr (R > 1) {
    if (rows < R) return run_tile_of<Format, V, R - 1>(rows, tile);
  }
  if constexpr (V == kMaxVectors) {
    if (tile.looks_ahead) return run_tile<Format, R, V, true>(tile);
  }
  run_tile<Format, R, V, false>(tile);
}

/// y = the sums (by their outputs' scales, where blocks have not been scaled by them) + bias.
template <class Format>
void finish_rows(const QuantizedProduct& product, const float* sums, int64_t row, int64_t rows) {
  for_vectors(product.outputs, [&](int64_t i, auto lanes) {
    const VecF bias = product.bias == nullptr ? VecF{} : at(product.bias + i, lanes);
    const VecF scale = Format::kScaledAtEnd ? load_scales(static_cast<const char*>(product.panel) + 2 * i) : VecF{};
    for (int64_t r = 0; r < rows; ++r) {
      const VecF sum = load(sums + r * kPanelOutputs + i);
      put(product.y + (row + r) * product.y_stride + i, Format::kScaledAtEnd ? sum * scale + bias : sum + bias, lanes);
    }
  });
}

template <class Format>
void multiply_panel(const QuantizedProduct& product) {
  constexpr int64_t kWidth = kMaxVectors * kLanes;
  const int64_t vectors = (product.outputs + kLanes - 1) / kLanes;
  const int64_t passes = (product.rows + kMaxRows - 1) / kMaxRows;
  const int64_t steps = product.groups * product.group_blocks * (Format::kBlock / Format::kStepColumns);
  int64_t row = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    // Rows are dealt out evenly: 7 are 4 + 3, not 6 + 1.
    const int64_t rows = (product.rows - row + passes - pass - 1) / (passes - pass);
    alignas(64) float sums[kMaxRows * kPanelOutputs] = {};
    Tile tile{};
    tile.x = static_cast<const char*>(product.x) + row * product.x_stride;
    tile.x_stride = product.x_stride;
    tile.panel = static_cast<const char*>(product.panel);
    tile.groups = product.groups;
    tile.group_blocks = product.group_blocks;
    const int64_t fetching = pass - (passes - kFetchingPasses);
    const bool fetches = product.next != nullptr && passes >= kFetchingPasses && fetching >= 0;
    tile.wanted = fetches ? static_cast<const char*>(product.next) + fetching * steps * kLineBytes : tile.panel;
    tile.wanted_stride = fetches ? kLineBytes : 0;
    tile.looks_ahead = passes == 1;
    for (tile.first = 0; tile.first < vectors * kLanes;) {
      tile.sums = sums + tile.first;
      if (tile.first + kWidth <= vectors * kLanes) {
        run_tile_of<Format, kMaxVectors>(static_cast<int>(rows), tile);
        tile.first += kWidth;
      } else {
        run_tile_of<Format, 1>(static_cast<int>(rows), tile);
        tile.first += kLanes;
      }
      tile.wanted_stride = 0;
      tile.looks_ahead = false;
    }
    finish_rows<Format>(product, sums, row, rows);
    row += rows;
  }
}

#if defined(__AVX512F__)
constexpr __mmask16 kAllLanes = 0xffff;  // for forms that GCC 12 does not warn of: it takes the others to read garbage
#endif

/// x rounded to the nearest integer, ties to even; |x| <= 127. The same on every instruction set.
inline VecI nearest(VecF x) {
#if defined(__AVX512F__)
  return reinterpret_cast<VecI>(_mm512_maskz_cvtps_epi32(kAllLanes, reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<VecI>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(x)));
#else
  constexpr float kShift = 12582912;  // 1.5 * 2^23: a float near it holds whole numbers alone
  return bits_of(x + kShift) - 0x4b400000;
#endif
}

/// The largest magnitude of x [n]; infinity or NaN where one of them is in x. (As integers, magnitudes keep their order
/// and NaNs come last.)
inline float largest_magnitude(const float* x, int64_t n) {
  VecI largest{};
  for_vectors(n, [&](int64_t i, auto lanes) {
    const VecI magnitude = bits_of(at(x + i, lanes)) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  });
  int32_t most = 0;
  for (int i = 0; i < kLanes; ++i) most = largest[i] > most ? largest[i] : most;
  float result;
  __builtin_memcpy(&result, &most, sizeof(result));
  return result;
}

/// Stores codes of kLanes columns, the first of which is a multiple of 4.
inline void store_codes(Code* to, VecI codes) {
#if defined(__AVX512VNNI__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm512_maskz_cvtepi32_epi8(kAllLanes, reinterpret_cast<__m512i>(codes)));
#elif defined(__AVX2__)
  for (int i = 0; i < kLanes; i += 4) {  // as add_columns() takes them
    to[i] = static_cast<Code>(codes[i]);
    to[i + 1] = static_cast<Code>(codes[i + 2]);
    to[i + 2] = static_cast<Code>(codes[i + 1]);
    to[i + 3] = static_cast<Code>(codes[i + 3]);
  }
#else
  store(to, __builtin_convertvector(codes, VecF));
#endif
}

}  // namespace

void round_blocks(const float* x, int64_t n, int block, int64_t blocks, void* rounded) {
  auto* out = static_cast<char*>(rounded);
  for (int64_t b = 0; b < blocks; ++b) {
    const float* const from = x + b * block;
    const int64_t left = n - b * block;
    const int64_t count = left < block ? left : block;
    const float largest = largest_magnitude(from, count);
    const bool finite = largest <= __FLT_MAX__;
    const float inverse = finite && largest >= kLeastMagnitude ? 127 / largest : 0.0F;
    auto* const codes = reinterpret_cast<Code*>(out + sizeof(BlockHead));
    VecI sums{};
    for (int64_t i = 0; i < block; i += kLanes) {
      const int64_t here = count - i < kLanes ? count - i : kLanes;
      VecI lanes{};
      if (here > 0 && inverse > 0) {
        const VecF scaled = load_first(from + i, static_cast<int>(here)) * inverse;
        lanes = nearest(min(max(scaled, broadcast(-127)), broadcast(127)));
      }
      sums += lanes;
      store_codes(codes + i, lanes);
    }
    int32_t sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += sums[i];
    const BlockHead head = {inverse > 0 ? largest / 127 : finite ? 0.0F : __builtin_nanf(""), -sum};
    __builtin_memcpy(out, &head, sizeof(head));
    out += sizeof(BlockHead) + static_cast<uint64_t>(block) * sizeof(Code);
  }
}

void multiply_panel_int8(const QuantizedProduct& product) {
  product.block == 32 ? multiply_panel<Int8<32>>(product) : multiply_panel<Int8<64>>(product);
}

void multiply_panel_int4(const QuantizedProduct& product) {
  product.block == 32 ? multiply_panel<Int4<32>>(product) : multiply_panel<Int4<64>>(product);
}

}  // namespace molt::MOLT_ISA
