// Matrix products on packed panels: one register-tiled kernel, streamed over a panel, for one row as for hundreds.
//
// A tile of R rows by V vectors of outputs stays in registers while the panel's steps pass by once. So a call of up to
// kMaxRows rows reads its weights exactly once, in the order they lie in memory, which the hardware's own prefetcher
// follows at the machine's full bandwidth (software prefetch was measured to gain nothing). Every output is summed in
// the order of k by one accumulator: it is the same, bit for bit, whatever other rows are in the call.
#include "kernels/cpu/isa/panel_gemm.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "kernels/cpu/isa/rounding.h"
#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {
namespace {

constexpr int kPanelVectors = kPanelOutputs / kLanes;

// Rows by vectors of a full tile. Of the registers one is left for x and as many as there are vectors for the weights.
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__aarch64__)
constexpr int kMaxRows = 6;
#else
constexpr int kMaxRows = 2;
#endif
constexpr int vectors_for(int rows) {
  const int by_registers = (kVectorRegisters - 2) / (rows + 1);
  const int vectors = by_registers >= 4 ? 4 : by_registers >= 2 ? 2 : 1;
  return vectors < kPanelVectors ? vectors : kPanelVectors;
}

// Steps of a panel that are used on all rows before the next ones: 256 KiB, which fits a level-2 cache.
constexpr int64_t kBlockSteps = 1024;

constexpr int kLineBytes = 64;

// What is fetched ahead, all of it measured. A call that passes over the panel once is followed by the hardware, on
// some machines faster if it looks a little ahead of itself. Where it returns for more rows or outputs, only its first
// pass would wait for memory, so each fetches a share of the next panel (no more than the last kFetchingPasses of them:
// they suffice).
constexpr int64_t kFetchingPasses = 4;
constexpr int kStepsAhead = 4;
// A tile narrower than the panel leaves gaps that the hardware does not look beyond.
constexpr int kNarrowStepsAhead = 32;

alignas(64) constexpr float kZeros[kPanelOutputs] = {};

/// What a tile reads and writes. Sums start from `init` (zeros, the bias, or what earlier steps have left in y).
template <class X>
struct Tile {
  const X* x;
  int64_t x_stride;
  const char* panel;
  int64_t steps;
  const char* wanted;     // memory that is wanted next, to be fetched meanwhile:
  int64_t wanted_stride;  // bytes of it a step, 0 for none
  bool looks_ahead;       // whether the panel itself is fetched, and nothing else
  const float* init;
  int64_t init_stride;
  float* y;
  int64_t y_stride;
};

/// One k of float32 weights.
struct StepF32 {
  using X = float;
  static constexpr int kElements = 1;  // of a row of x, in a step

  template <int R, int V>
  static inline void add(const X* x, int64_t x_stride, const char* panel, VecF (&sum)[R][V]) {
    const float* weights = reinterpret_cast<const float*>(panel);
    VecF w[V];
    for (int v = 0; v < V; ++v) w[v] = load(weights + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const VecF a = broadcast(x[r * x_stride]);
      for (int v = 0; v < V; ++v) sum[r][v] += a * w[v];
    }
  }
};

#if defined(__AVX512BF16__)
/// A pair of k of bfloat16 weights, by the instruction made for it.
struct StepBf16 {
  using X = Rounded;
  static constexpr int kElements = 2;

  template <int R, int V>
  static inline void add(const X* x, int64_t x_stride, const char* panel, VecF (&sum)[R][V]) {
    __m512i w[V];
    for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(panel + v * sizeof(__m512i));
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, x + r * x_stride, sizeof(pair));
      const __m512i a = _mm512_set1_epi32(pair);
      for (int v = 0; v < V; ++v) {
        sum[r][v] = _mm512_dpbf16_ps(sum[r][v], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(w[v]));
      }
    }
  }
};
#else
/// A pair of k of bfloat16 weights, widened to float: the even k is the low half of each 32 bits. x was rounded to
/// bfloat16 and is kept as float.
struct StepBf16 {
  using X = Rounded;
  static constexpr int kElements = 2;

  template <int R, int V>
  static inline void add(const X* x, int64_t x_stride, const char* panel, VecF (&sum)[R][V]) {
    typedef int32_t UnalignedVecI __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
    VecI pairs[V];
    VecF w[V];
    for (int v = 0; v < V; ++v) {
      pairs[v] = *reinterpret_cast<const UnalignedVecI*>(panel + v * static_cast<int>(sizeof(VecI)));
      w[v] = reinterpret_cast<VecF>(pairs[v] << 16);
    }
    for (int r = 0; r < R; ++r) {
      const VecF a = broadcast(x[r * x_stride]);
      for (int v = 0; v < V; ++v) sum[r][v] += a * w[v];
    }
    for (int v = 0; v < V; ++v) w[v] = reinterpret_cast<VecF>(pairs[v] & ~0xffff);
    for (int r = 0; r < R; ++r) {
      const VecF a = broadcast(x[r * x_stride + 1]);
      for (int v = 0; v < V; ++v) sum[r][v] += a * w[v];
    }
  }
};
#endif

/// Fetches `lines` cache lines into the level-2 cache.
inline void prefetch(const char* at, int lines) {
  for (int line = 0; line < lines; ++line) __builtin_prefetch(at + line * kLineBytes, 0, 2);
}

/// kWantedLines: cache lines that wanted_stride bytes touch at most. kLooksAhead: whether the panel itself is fetched,
/// too.
template <class Step, int R, int V, int kWantedLines, bool kLooksAhead = false>
void run_tile(const Tile<typename Step::X>& tile) {
  constexpr int kTileLines = V * kLanes * static_cast<int>(sizeof(float)) / kLineBytes;
  VecF sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sum[r][v] = load(tile.init + r * tile.init_stride + v * kLanes);
  }
  const typename Step::X* x = tile.x;
  const int64_t x_stride = tile.x_stride;
  const char* panel = tile.panel;
  const char* wanted = tile.wanted;
  const int64_t wanted_stride = tile.wanted_stride;
  for (int64_t step = 0; step < tile.steps; ++step) {
    if constexpr (V < kPanelVectors) {
      prefetch(panel + kNarrowStepsAhead * kPanelStepBytes, kTileLines);
    } else if constexpr (kLooksAhead) {
      prefetch(panel + kStepsAhead * kPanelStepBytes, kTileLines);
    }
    if constexpr (kWantedLines > 0) {
      prefetch(wanted, kWantedLines);
      wanted += wanted_stride;
    }
    Step::add(x, x_stride, panel, sum);
    x += Step::kElements;
    panel += kPanelStepBytes;
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(tile.y + r * tile.y_stride + v * kLanes, sum[r][v]);
  }
}

/// run_tile<Step, rows, vectors> for numbers known only at run time; vectors <= vectors_for(rows).
template <class Step, int R = kMaxRows, int V = vectors_for(R)>
void run_tile_of(int rows, int vectors, const Tile<typename Step::X>& tile) {
  if constexpr (R > 1) {
    if (rows < R) return run_tile_of<Step, R - 1>(rows, vectors, tile);
  }
  if constexpr (V > 1) {
    if (vectors < V) return run_tile_of<Step, R, V - 1>(rows, vectors, tile);
  }
  if constexpr (V == kPanelVectors) {
    if (tile.looks_ahead) return run_tile<Step, R, V, 0, true>(tile);
  }
  if (tile.wanted_stride == 0) {
    run_tile<Step, R, V, 0>(tile);
  } else if (tile.wanted_stride <= kLineBytes) {
    run_tile<Step, R, V, 1>(tile);
  } else {
    run_tile<Step, R, V, 2>(tile);
  }
}

/// A tile whose last vector reaches beyond the matrix: goes through a buffer of whole vectors.
template <class Step>
void run_edge_tile(int rows, int vectors, int outputs, Tile<typename Step::X> tile) {
  alignas(64) float buffer[kMaxRows * kPanelOutputs];
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors * kLanes; ++i) {
      buffer[r * kPanelOutputs + i] = i < outputs ? tile.init[r * tile.init_stride + i] : 0.0F;
    }
  }
  float* const y = tile.y;
  const int64_t y_stride = tile.y_stride;
  tile.init = tile.y = buffer;
  tile.init_stride = tile.y_stride = kPanelOutputs;
  run_tile_of<Step>(rows, vectors, tile);
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < outputs; ++i) y[r * y_stride + i] = buffer[r * kPanelOutputs + i];
  }
}

/// The tiles of `rows` rows (<= kMaxRows) side by side, over the outputs of the panel. The block's wanted_stride is
/// meant for all of them together.
template <class Step>
void run_row_block(int rows, int outputs, const Tile<typename Step::X>& block) {
  const int width = vectors_for(rows) * kLanes;
  const int tiles = (outputs + width - 1) / width;
  for (int first = 0; first < outputs; first += width) {
    Tile<typename Step::X> tile = block;
    tile.panel += first * (kPanelStepBytes / kPanelOutputs);
    tile.wanted_stride = (block.wanted_stride + tiles - 1) / tiles;
    tile.wanted += first / width * tile.wanted_stride * tile.steps;
    tile.init += first;
    tile.y += first;
    const int here = outputs - first < width ? outputs - first : width;
    const int vectors = (here + kLanes - 1) / kLanes;
    if (here == vectors * kLanes) {
      run_tile_of<Step>(rows, vectors, tile);
    } else {
      run_edge_tile<Step>(rows, vectors, here, tile);
    }
  }
}

template <class Step>
void multiply_panel(const PanelProduct& product) {
  using X = typename Step::X;
  const auto* const panel = static_cast<const char*>(product.panel);
  const auto* const next = static_cast<const char*>(product.next);
  const int64_t blocks = product.steps > kBlockSteps ? (product.steps + kBlockSteps - 1) / kBlockSteps : 1;
  const int64_t passes = (product.rows + kMaxRows - 1) / kMaxRows;
  const int64_t fetching = passes < kFetchingPasses ? passes : kFetchingPasses;
  const bool returns = passes > 1 || product.outputs > vectors_for(static_cast<int>(product.rows)) * kLanes;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = product.steps * b / blocks;
    const int64_t end = product.steps * (b + 1) / blocks;
    const char* const wanted = b + 1 < blocks ? panel + end * kPanelStepBytes : next;
    int64_t row = 0;
    for (int64_t pass = 0; pass < passes; ++pass) {
      // Rows are dealt out evenly: 7 are 4 + 3, not 6 + 1.
      const int64_t rows = (product.rows - row + passes - pass - 1) / (passes - pass);
      Tile<X> tile{};
      tile.x = static_cast<const X*>(product.x) + row * product.x_stride + begin * Step::kElements;
      tile.x_stride = product.x_stride;
      tile.panel = panel + begin * kPanelStepBytes;
      tile.steps = end - begin;
      tile.looks_ahead = !returns;
      if (returns && wanted != nullptr && pass >= passes - fetching) {
        tile.wanted_stride = kPanelStepBytes / fetching;
        tile.wanted = wanted + (pass - (passes - fetching)) * tile.wanted_stride * tile.steps;
      }
      tile.y = product.y + row * product.y_stride;
      tile.y_stride = product.y_stride;
      tile.init = b > 0 ? tile.y : product.bias != nullptr ? product.bias : kZeros;
      tile.init_stride = b > 0 ? tile.y_stride : 0;
      run_row_block<Step>(static_cast<int>(rows), product.outputs, tile);
      row += rows;
    }
  }
}

}  // namespace

void round_row(const float* x, int64_t n, int64_t padded, void* rounded) {
  auto* out = static_cast<Rounded*>(rounded);
  for_vectors(n, [&](int64_t i, auto lanes) { store_rounded(out + i, at(x + i, lanes), lanes); });
  for (int64_t i = n; i < padded; ++i) out[i] = 0;
}

void multiply_panel_f32(const PanelProduct& product) {
  multiply_panel<StepF32>(product);
}
void multiply_panel_bf16(const PanelProduct& product) {
  multiply_panel<StepBf16>(product);
}

}  // namespace molt::MOLT_ISA
