// Matrix products with bfloat16 weights by tiles: what isa/panel_gemm.cc is for vectors, on the same packed panels.
//
// A tile step takes 32 k: a product of tiles adds 16 rows by 16 outputs. Rows come in bands. A band of two tiles of
// rows meets two tiles of outputs at a time, so that each tile that is loaded is multiplied twice; the steps of a panel
// are taken in blocks that stay in the level-1 cache while all bands of a chunk of rows pass over them, and what is
// summed so far waits in a buffer meanwhile. Up to 16 rows are one band of one tile, which passes over the panel once,
// in the order it lies in memory: that takes as long for one row as for 16, less than memory does. A single row goes by
// vectors, which read memory faster.
//
// Every output is summed in the order of the tile steps, as their instruction does: it is the same, bit for bit,
// whatever other rows are in the call. So rows that are no multiple of 16 need no tile of their own shape: the last
// band begins early enough to be whole, and computes some rows once more.
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/amx/wanted.h"

namespace molt::MOLT_ISA {
namespace {

constexpr int64_t kStepBytes = kTileRows * kPanelStepBytes;  // of a panel, in a tile step
constexpr int kTileOutputs = 16;

// Tile steps of a block, 4 KiB of weights each, and rows of a chunk.
constexpr int64_t kBlockSteps = 8;
constexpr int64_t kChunkRows = 128;
constexpr int64_t kBandRows = 2 * kTileRows;

// How far ahead a single pass over a panel fetches: measured.
constexpr int64_t kBytesAhead = 512;
constexpr int64_t kBytesAheadOfRow = 3072;

/// What a band of one or two tiles of rows reads and writes; pointers to each tile's first row, strides in bytes.
struct Band {
  const char* x[2];
  int64_t x_stride;
  const char* panel;
  int64_t steps;
  const char* init[2];  // what sums start from: the bias, or what earlier steps have left
  int64_t init_stride;
  char* sums[2];
  int64_t sums_stride;
};

/// R tiles of rows by C tiles of outputs, C tiles 0 .. R * C - 1. Of A it uses tile 4 and, for two rows, 5; the others
/// are B's.
template <int R, int C>
void run_tiles(const Band& band, int first_column, Wanted& wanted) {
  constexpr int kA = 4;
  constexpr int kFirstB = kA + R;
  const int64_t offset = first_column * kTileBytes;
  unrolled<R>([&](auto r) {
    unrolled<C>([&](auto c) {
      load_tile<r.value * C + c.value>(band.init[r.value] + offset + c.value * kTileBytes, band.init_stride);
    });
  });
  const char* x = band.x[0];
  const char* x2 = R == 2 ? band.x[1] : nullptr;
  const char* panel = band.panel + offset;
  const int64_t x_stride = band.x_stride;
  Wanted ahead = wanted;
  for (int64_t step = 0; step < band.steps; ++step) {
    load_tile<kA>(x, x_stride);
    if constexpr (R == 2) load_tile<kA + 1>(x2, x_stride);
    unrolled<C>([&](auto c) {
      constexpr int kB = kFirstB + c.value % (8 - kFirstB);
      ahead.fetch();
      load_tile<kB>(panel + c.value * kTileBytes, kPanelStepBytes);
      unrolled<R>([&](auto r) { multiply_bf16<r.value * C + c.value, kA + r.value, kB>(); });
    });
    x += kTileBytes;
    if constexpr (R == 2) x2 += kTileBytes;
    panel += kStepBytes;
  }
  wanted = ahead;
  unrolled<R>([&](auto r) {
    unrolled<C>([&](auto c) {
      store_tile<r.value * C + c.value>(band.sums[r.value] + offset + c.value * kTileBytes, band.sums_stride);
    });
  });
}

/// All tiles of outputs.
void run_band(const Band& band, int tiles, int columns, Wanted& wanted) {
  if (tiles == 2) {
    if (columns >= 2) run_tiles<2, 2>(band, 0, wanted);
    if (columns == 4) run_tiles<2, 2>(band, 2, wanted);
    if (columns % 2 != 0) run_tiles<2, 1>(band, columns - 1, wanted);
    return;
  }
  switch (columns) {
    case 1: return run_tiles<1, 1>(band, 0, wanted);
    case 2: return run_tiles<1, 2>(band, 0, wanted);
    case 3: return run_tiles<1, 3>(band, 0, wanted);
    default: return run_tiles<1, 4>(band, 0, wanted);
  }
}

/// Where a band's tiles of rows begin. The last one begins early enough to be whole, if there are as many rows.
struct BandRows {
  int tiles;
  int64_t first[2];

  BandRows(int64_t row, int64_t end) : tiles(end - row > kTileRows ? 2 : 1) {
    const int64_t last = end > kTileRows ? end - kTileRows : 0;
    first[0] = tiles == 2 ? row : last;
    first[1] = row + kTileRows < last ? row + kTileRows : last;
  }
};

/// y's rows from `row` on = the first `outputs` of rows of a buffer.
void copy_rows(const float* from, const PanelProduct& product, int64_t row, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    float* const to = product.y + (row + r) * product.y_stride;
    for_vectors(product.outputs,
                [&](int64_t i, auto lanes) { put(to + i, at(from + r * kPanelOutputs + i, lanes), lanes); });
  }
}

/// Rows [begin, end) of a product, no more than kChunkRows. `bias` has values for all of the panel's outputs.
void multiply_chunk(const PanelProduct& product, const float* bias, int64_t begin, int64_t end, Wanted& wanted) {
  alignas(64) float buffer[kChunkRows * kPanelOutputs];
  constexpr int64_t kBufferStride = kPanelOutputs * sizeof(float);
  const int columns = (product.outputs + kTileOutputs - 1) / kTileOutputs;
  const bool whole = product.outputs % kTileOutputs == 0;
  const int64_t steps = product.steps / kTileRows;
  const int64_t blocks =
      product.rows <= kTileRows || steps <= kBlockSteps ? 1 : (steps + kBlockSteps - 1) / kBlockSteps;
  const int64_t tile_rows = product.rows < kTileRows ? product.rows : kTileRows;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first_step = steps * b / blocks;
    const bool to_y = b + 1 == blocks && whole;
    for (int64_t row = begin; row < end; row += kBandRows) {
      const BandRows rows(row, end);
      Band band{};
      band.x_stride = product.x_stride * static_cast<int64_t>(sizeof(uint16_t));
      band.panel = static_cast<const char*>(product.panel) + first_step * kStepBytes;
      band.steps = steps * (b + 1) / blocks - first_step;
      band.init_stride = b == 0 ? 0 : kBufferStride;
      band.sums_stride = to_y ? product.y_stride * static_cast<int64_t>(sizeof(float)) : kBufferStride;
      for (int r = 0; r < rows.tiles; ++r) {
        float* const partial = buffer + (row - begin + r * kTileRows) * kPanelOutputs;
        float* const y = product.y + rows.first[r] * product.y_stride;
        band.x[r] = static_cast<const char*>(product.x) + rows.first[r] * band.x_stride + first_step * kTileBytes;
        band.init[r] = reinterpret_cast<const char*>(b == 0 ? bias : partial);
        band.sums[r] = reinterpret_cast<char*>(to_y ? y : partial);
      }
      run_band(band, rows.tiles, columns, wanted);
      for (int r = 0; r < rows.tiles && b + 1 == blocks && !whole; ++r) {
        copy_rows(buffer + (row - begin + r * kTileRows) * kPanelOutputs, product, rows.first[r], tile_rows);
      }
    }
  }
}

/// Subnormal numbers are taken and given as zero meanwhile, as by tiles.
class WithoutSubnormals {
 public:
  WithoutSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushResults | kFlushOperands); }
  ~WithoutSubnormals() { _mm_setcsr(before_); }
  WithoutSubnormals(const WithoutSubnormals&) = delete;
  WithoutSubnormals& operator=(const WithoutSubnormals&) = delete;

 private:
  static constexpr unsigned kFlushResults = 0x8000;
  static constexpr unsigned kFlushOperands = 0x0040;
  unsigned before_;
};

/// A single row, by vectors: it waits for memory alone, and loads of tiles keep fewer of its lines on their way. The
/// sums are those of the tiles, bit for bit, because they are taken in their order (multiply_bf16()).
void multiply_row(const PanelProduct& product, const float* bias) {
  constexpr int kVectors = kPanelOutputs / kLanes;
  const WithoutSubnormals mode;
  const auto* x = static_cast<const uint16_t*>(product.x);
  const auto* panel = static_cast<const char*>(product.panel);
  VecF sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = load(bias + v * kLanes);
  for (int64_t step = 0; step < product.steps / kTileRows; ++step) {
    VecF even[kVectors] = {};
    VecF odd[kVectors] = {};
    for (int k = 0; k < kTileRows; ++k) {
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(panel + kBytesAheadOfRow + v * kTileBytes, 0, 2);
      uint32_t pair;
      __builtin_memcpy(&pair, x, sizeof(pair));
      const VecF x_even = float_of(VecI{} + static_cast<int32_t>(pair << 16));
      const VecF x_odd = float_of(VecI{} + static_cast<int32_t>(pair & 0xffff0000U));
      MOLT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const VecI w = bits_of(load(reinterpret_cast<const float*>(panel) + v * kLanes));
        even[v] += x_even * float_of(w << 16);
        odd[v] += x_odd * float_of(w & ~0xffff);
      }
      x += 2;
      panel += kPanelStepBytes;
    }
    for (int v = 0; v < kVectors; ++v) sum[v] += even[v] + odd[v];
  }
  alignas(64) float sums[kPanelOutputs];
  for (int v = 0; v < kVectors; ++v) store(sums + v * kLanes, sum[v]);
  copy_rows(sums, product, 0, 1);
}

}  // namespace

void multiply_panel_bf16(const PanelProduct& product) {
  alignas(64) float bias[kPanelOutputs] = {};
  for (int i = 0; i < product.outputs && product.bias != nullptr; ++i) bias[i] = product.bias[i];
  if (product.rows == 1) return multiply_row(product, bias);
  const int64_t bytes = product.steps * kPanelStepBytes;
  const int64_t bands = (product.rows + kBandRows - 1) / kBandRows;
  const int64_t columns = (product.outputs + kTileOutputs - 1) / kTileOutputs;
  const int64_t loads = product.steps / kTileRows * bands * columns;  // of tiles of weights
  Wanted wanted;
  if (product.rows <= kTileRows) {  // a single pass
    wanted = Wanted::spread(product.panel, bytes, loads);
    wanted.at += kBytesAhead;
    wanted.end += product.next == nullptr ? 0 : kBytesAhead;
  } else if (product.next != nullptr) {
    wanted = Wanted::spread(product.next, bytes, loads);
  }
  const Tiles tiles(product.rows < kTileRows ? static_cast<int>(product.rows) : kTileRows);
  for (int64_t row = 0; row < product.rows; row += kChunkRows) {
    const int64_t end = row + kChunkRows < product.rows ? row + kChunkRows : product.rows;
    multiply_chunk(product, bias, row, end, wanted);
  }
}

}  // namespace molt::MOLT_ISA
