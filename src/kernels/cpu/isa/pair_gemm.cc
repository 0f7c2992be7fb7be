// Matrix products with two bfloat16 weights of every four columns (2:4): what panel_gemm.cc is for all of them.
//
// A weight vector holds a pair of weights of each output, which belong to columns of its own choice: one of six pairs
// of a group of four. So a row of x comes as the six pairs of each group (pair_columns()), in a register; the weights'
// codes, 4 bits a group, take each lane's pair from there. Of 64 outputs by 32 columns 2304 bytes are read, where dense
// bfloat16 weights have 4096. Every output is summed in the order of the columns by one accumulator: it is the same,
// bit for bit, whatever other rows are in the call.
#include "kernels/cpu/isa/pair_gemm.h"

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {
namespace {

typedef int32_t UnalignedVecI __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

// Rows by vectors of a full tile. Of the registers a vector's codes take one, a row's pairs one, and the weights one.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMaxRows = 4;
constexpr int kMaxVectors = 4;
#elif defined(__AVX2__)
constexpr int kMaxRows = 2;
constexpr int kMaxVectors = 4;
#else
constexpr int kMaxRows = 1;
constexpr int kMaxVectors = 4;
#endif
constexpr int kPanelVectors = kPanelOutputs / kLanes;
static_assert(kPanelVectors % kMaxVectors == 0);

// A tile fetches ahead of itself: where it is narrower than the panel, it leaves gaps that the hardware does not look
// beyond, and elsewhere the hardware does not look far enough. Measured; whole panels from 4 KB on are slower.
constexpr int kStepsAhead = kMaxVectors < kPanelVectors ? 32 : 12;

inline VecI load_words(const char* at) {
  return *reinterpret_cast<const UnalignedVecI*>(at);
}

/// The pairs of a group, ready to be chosen from.
#if defined(__AVX512F__)
using Pairs = __m512i;
inline Pairs load_pairs(const int32_t* at) {
  return _mm512_maskz_broadcast_i64x4(0xff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}
/// Of each lane the pair that the lowest four bits of its code name.
inline VecI choose(Pairs pairs, VecI codes) {
  return reinterpret_cast<VecI>(_mm512_maskz_permutexvar_epi32(0xffff, reinterpret_cast<__m512i>(codes), pairs));
}
#elif defined(__AVX2__)
using Pairs = __m256i;
inline Pairs load_pairs(const int32_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline VecI choose(Pairs pairs, VecI codes) {
  return reinterpret_cast<VecI>(_mm256_permutevar8x32_epi32(pairs, reinterpret_cast<__m256i>(codes)));
}
#else
using Pairs = const int32_t*;
inline Pairs load_pairs(const int32_t* at) {
  return at;
}
inline VecI choose(Pairs pairs, VecI codes) {
  VecI chosen;
  for (int i = 0; i < kLanes; ++i) chosen[i] = pairs[codes[i] & 7];
  return chosen;
}
#endif

/// sum + the products of both halves.
inline VecF add_products(VecF sum, VecI w, VecI x) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
#else
  sum += float_of(w << 16) * float_of(x << 16);
  return sum + float_of(w & ~0xffff) * float_of(x & ~0xffff);
#endif
}

/// What a tile reads and writes: `rows` of pairs of columns by kMaxVectors vectors of outputs.
struct Tile {
  const int32_t* x;
  int64_t x_stride;
  const char* panel;  // at the tile's first output
  int64_t blocks;
  float* sums;  // [rows, kPanelOutputs]
};

/// Fetches the tile's part of a step.
inline void fetch_step(const char* at) {
  MOLT_UNROLL
  for (int line = 0; line < kMaxVectors * kLanes * 4; line += 64) __builtin_prefetch(at + line, 0, 2);
}

template <int R>
void run_tile(const Tile& tile) {
  VecF sum[R][kMaxVectors];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kMaxVectors; ++v) sum[r][v] = load(tile.sums + r * kPanelOutputs + v * kLanes);
  }
  const int32_t* x = tile.x;
  const char* panel = tile.panel;
  for (int64_t block = 0; block < tile.blocks; ++block) {
    VecI codes[kMaxVectors];
    MOLT_UNROLL
    for (int v = 0; v < kMaxVectors; ++v) codes[v] = load_words(panel + v * kLanes * 4);
    fetch_step(panel + kStepsAhead * kPanelStepBytes);
    panel += kPanelStepBytes;
    MOLT_NO_UNROLL  // unrolled, what it fetches comes in one clump, which memory makes wait for
        for (int group = 0; group < kPairBlockGroups; ++group) {
      fetch_step(panel + kStepsAhead * kPanelStepBytes);
      Pairs pairs[R];
      MOLT_UNROLL
      for (int r = 0; r < R; ++r) pairs[r] = load_pairs(x + r * tile.x_stride);
      MOLT_UNROLL
      for (int v = 0; v < kMaxVectors; ++v) {
        const VecI w = load_words(panel + v * kLanes * 4);
        MOLT_UNROLL
        for (int r = 0; r < R; ++r) sum[r][v] = add_products(sum[r][v], w, choose(pairs[r], codes[v]));
        codes[v] >>= 4;
      }
      panel += kPanelStepBytes;
      x += kPairsAGroup;
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kMaxVectors; ++v) store(tile.sums + r * kPanelOutputs + v * kLanes, sum[r][v]);
  }
}

/// run_tile<rows> for a number known only at run time.
template <int R = kMaxRows>
void run_tile_of(int rows, const Tile& tile) {
  if constexpr (R > 1) {
    if (rows < R) return run_tile_of<R - 1>(rows, tile);
  }
  run_tile<R>(tile);
}

/// The bits of x rounded to bfloat16, to nearest and ties to even; a NaN stays one.
inline uint32_t round_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffU) > 0x7f800000U) return bits >> 16 | 0x40U;
  return (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
}

}  // namespace

void pair_columns(const float* x, int64_t n, int64_t blocks, void* pairs) {
  auto* out = static_cast<uint32_t*>(pairs);
  for (int64_t k = 0; k < blocks * kPairBlockGroups * 4; k += 4) {
    uint32_t column[4];
    for (int i = 0; i < 4; ++i) column[i] = k + i < n ? round_bits(x[k + i]) : 0;
    for (int i = 0; i < 3; ++i) {
      for (int j = i + 1; j < 4; ++j) *out++ = column[i] | column[j] << 16;
    }
    *out++ = 0;
    *out++ = 0;
  }
}

void multiply_panel_pairs(const PairProduct& product) {
  const int64_t passes = (product.rows + kMaxRows - 1) / kMaxRows;
  int64_t row = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    // Rows are dealt out evenly: 5 are 3 + 2, not 4 + 1.
    const int64_t rows = (product.rows - row + passes - pass - 1) / (passes - pass);
    alignas(64) float sums[kMaxRows * kPanelOutputs];
    for (int64_t r = 0; r < rows; ++r) {
      for (int i = 0; i < kPanelOutputs; ++i) {
        sums[r * kPanelOutputs + i] = product.bias != nullptr && i < product.outputs ? product.bias[i] : 0.0F;
      }
    }
    for (int first = 0; first < product.outputs; first += kMaxVectors * kLanes) {
      run_tile_of(static_cast<int>(rows),
                  {static_cast<const int32_t*>(product.x) + row * product.x_stride, product.x_stride,
                   static_cast<const char*>(product.panel) + first * 4, product.blocks, sums + first});
    }
    for (int64_t r = 0; r < rows; ++r) {
      for_vectors(product.outputs, [&](int64_t i, auto lanes) {
        put(product.y + (row + r) * product.y_stride + i, load(sums + r * kPanelOutputs + i), lanes);
      });
    }
    row += rows;
  }
}

}  // namespace molt::MOLT_ISA
