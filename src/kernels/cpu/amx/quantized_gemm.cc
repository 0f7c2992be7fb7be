// Matrix products with quantized weights by tiles: what isa/quantized_gemm.cc is for vectors, on the same panels and
// the same rounded rows, and with the same results, bit for bit.
//
// A tile of 16 rows of codes meets the tiles of a panel's outputs, one block of columns at a time: a product of tiles
// is the whole sum of a block, an exact integer. It has to leave the tile registers to be scaled and added to float
// sums, block after block in order, and that takes longer than the product. So a tile's three steps are taken apart:
// while block b is multiplied, the sums of b - 1 are stored and those of b - 2 added, of which each part finds the one
// before it done.
//
// Weights of 4 bits are unpacked first, as many blocks as fit the level-1 cache with what else is needed, for all rows
// of a chunk; their zero points are taken off in passing. Fewer rows than a tile's are left to the vector kernel.
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/amx/wanted.h"
#include "kernels/cpu/isa/vec_narrow.h"

namespace molt::avx512_bf16 {
void multiply_panel_int8(const QuantizedProduct& product);
void multiply_panel_int4(const QuantizedProduct& product);
}  // namespace molt::avx512_bf16

namespace molt::MOLT_ISA {
namespace {

constexpr int kColumnTiles = kPanelOutputs / kLanes;

// Columns whose weights are taken together, and rows that they are used on.
constexpr int kSpanColumns = 384;
constexpr int64_t kChunkRows = 192;

/// The weights of a span of columns, as the tiles take them.
struct Span {
  const char* codes;  // steps of 4 columns, kPanelStepBytes each
  int64_t blocks;
  const float* scales;  // [blocks, kPanelOutputs]; weights of 8 bits: unused
};

inline VecF load_scales(const char* at) {
  return float_of(reinterpret_cast<VecI>(load_u16(at, Whole{}) << 16));
}

/// Weights of 8 bits: lie in the panel as the tiles take them. Zero points are multiplied by a block's sum, and scales
/// applied last.
struct Int8 {
  static constexpr int kBlock = 64;
  static constexpr int64_t kPackedBytes = kBlock / 4 * kPanelStepBytes;  // of a block, in the panel
  static constexpr bool kSignedWeights = false;

  VecI zeros[kColumnTiles];
  const char* panel;

  explicit Int8(const QuantizedProduct& product) : panel(static_cast<const char*>(product.panel)) {
    for (int c = 0; c < kColumnTiles; ++c) {
      zeros[c] = reinterpret_cast<VecI>(widen_u8(panel + 2 * kPanelOutputs + c * kLanes));
    }
  }

  Span span(int64_t first, int64_t blocks) { return {panel + kGroupHeadBytes + first * kPackedBytes, blocks, nullptr}; }

  /// A block's sums, scaled, of tile `c` of outputs.
  [[gnu::always_inline]] VecF add(VecF sum, VecI dots, const BlockHead& head, int c, const float* /*scales*/) const {
    const auto factor = reinterpret_cast<__m512i>(head.negative_sum - VecI{});
    const auto exact = reinterpret_cast<VecI>(
        _mm512_dpwssd_epi32(reinterpret_cast<__m512i>(dots), reinterpret_cast<__m512i>(zeros[c]), factor));
    return sum + __builtin_convertvector(exact, VecF) * broadcast(head.scale);
  }

  [[gnu::always_inline]] VecF finish(VecF sum, int64_t output) const { return sum * load_scales(panel + 2 * output); }
};

/// Weights of 4 bits.
template <int kBlockColumns>
struct Int4 {
  static constexpr int kBlock = kBlockColumns;
  static constexpr int64_t kPackedBytes = kBlock / 8 * kPanelStepBytes;
  static constexpr bool kSignedWeights = true;
  static constexpr int kSpanBlocks = kSpanColumns / kBlock;

  const char* panel;
  int64_t group_blocks;
  alignas(64) char codes[kSpanColumns / 4 * kPanelStepBytes];
  alignas(64) float scales[kSpanBlocks * kPanelOutputs];

  explicit Int4(const QuantizedProduct& product)
      : panel(static_cast<const char*>(product.panel)), group_blocks(product.group_blocks) {}

  /// Unpacks a span.
  Span span(int64_t first, int64_t blocks) {
    const int64_t group_bytes = kGroupHeadBytes + group_blocks * kPackedBytes;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t group = (first + b) / group_blocks;
      const char* const head = panel + group * group_bytes;
      const char* const from = head + kGroupHeadBytes + (first + b - group * group_blocks) * kPackedBytes;
      for (int c = 0; c < kColumnTiles; ++c) {
        store(scales + b * kPanelOutputs + c * kLanes, load_scales(head + 2 * c * kLanes));
        const VecU32 zeros = widen_u8(head + 2 * kPanelOutputs + c * kLanes) * 0x01010101U;
        unpack_tile(from + c * kTileBytes, zeros, codes + 2 * b * kPackedBytes + c * kTileBytes);
      }
    }
    return {codes, blocks, scales};
  }

  /// A block of 16 outputs: codes less `zeros`, which hold each output's zero point four times.
  static void unpack_tile(const char* from, VecU32 zeros, char* to) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const auto z = reinterpret_cast<__m512i>(zeros);
    for (int step = 0; step < kBlock / 8; ++step) {
      const __m512i both = _mm512_loadu_si512(from + step * kPanelStepBytes);
      const __m512i lower = _mm512_sub_epi8(_mm512_and_si512(both, nibble), z);
      const __m512i upper = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(both, 4), nibble), z);
      _mm512_store_si512(to + 2 * step * kPanelStepBytes, lower);
      _mm512_store_si512(to + (2 * step + 1) * kPanelStepBytes, upper);
    }
  }

  [[gnu::always_inline]] VecF add(VecF sum, VecI dots, const BlockHead& head, int c, const float* block_scales) const {
    const VecF scale = broadcast(head.scale) * load(block_scales + c * kLanes);
    return sum + __builtin_convertvector(dots, VecF) * scale;
  }

  [[gnu::always_inline]] VecF finish(VecF sum, int64_t /*output*/) const { return sum; }
};

/// A tile of rows.
template <class Format>
class RowTile {
 public:
  static constexpr int64_t kBlockBytes = static_cast<int64_t>(sizeof(BlockHead)) + Format::kBlock;

  /// x: of the first row and of the span's first block. sums: [kTileRows, kPanelOutputs], added to.
  RowTile(const Format& format, const char* x, int64_t x_stride, float* sums)
      : format_(format), x_(x), x_stride_(x_stride), sums_(sums) {}

  void add(const Span& span, int columns, Wanted& wanted) {
    for (int64_t b = 0; b < span.blocks + 2; ++b) {
      const bool multiplies = b < span.blocks;
      const bool stores = b >= 1 && b <= span.blocks;
      const bool adds = b >= 2;
      wanted.fetch();
      if (multiplies) load_tile<kA>(x_ + b * kBlockBytes + static_cast<int64_t>(sizeof(BlockHead)), x_stride_);
      unrolled<kColumnTiles>([&](auto c) {
        constexpr int kC = c.value;
        if (kC < columns) {
          if (stores) store_tile<kC>(dots_[(b - 1) % 2] + kC * kLanes, kPanelOutputs * sizeof(int32_t));
          if (multiplies) multiply<kC>(span.codes + b * (Format::kBlock / 4 * kPanelStepBytes));
        }
        if (adds) add_rows(b - 2, kC * kRowsAtOnce, span.scales, columns);
      });
    }
  }

 private:
  static constexpr int kA = kColumnTiles;
  static constexpr int kFirstB = kA + 1;
  static constexpr int kRowsAtOnce = kTileRows / kColumnTiles;

  template <int kC>
  [[gnu::always_inline]] void multiply(const char* codes) {
    constexpr int kB = kFirstB + kC % (8 - kFirstB);
    load_tile<kB>(codes + kC * kTileBytes, kPanelStepBytes);
    clear_tile<kC>();
    if constexpr (Format::kSignedWeights) {
      multiply_signed<kC, kA, kB>();
    } else {
      multiply_unsigned<kC, kA, kB>();
    }
  }

  /// Adds the products of block b to the sums of some rows.
  [[gnu::always_inline]] void add_rows(int64_t b, int first, const float* scales, int columns) {
    for (int r = first; r < first + kRowsAtOnce; ++r) {
      BlockHead head;
      __builtin_memcpy(&head, x_ + r * x_stride_ + b * kBlockBytes, sizeof(head));
      const int32_t* const dots = dots_[b % 2] + r * kPanelOutputs;
      float* const sums = sums_ + r * kPanelOutputs;
      for (int c = 0; c < columns; ++c) {
        const VecI exact = bits_of(load(reinterpret_cast<const float*>(dots + c * kLanes)));
        store(sums + c * kLanes, format_.add(load(sums + c * kLanes), exact, head, c, scales + b * kPanelOutputs));
      }
    }
  }

  const Format& format_;
  const char* x_;
  int64_t x_stride_;
  float* sums_;
  alignas(64) int32_t dots_[2][kTileRows * kPanelOutputs];  // of the blocks that were multiplied last
};

/// y's rows from `row` on = the sums of a tile of rows, finished.
template <class Format>
void finish_rows(const Format& format, const QuantizedProduct& product, const float* sums, int64_t row) {
  for_vectors(product.outputs, [&](int64_t i, auto lanes) {
    const VecF bias = product.bias == nullptr ? VecF{} : at(product.bias + i, lanes);
    for (int64_t r = 0; r < kTileRows; ++r) {
      const VecF sum = load(sums + r * kPanelOutputs + i);
      put(product.y + (row + r) * product.y_stride + i, format.finish(sum, i) + bias, lanes);
    }
  });
}

/// At least kTileRows rows.
template <class Format>
void multiply_panel(const QuantizedProduct& product) {
  constexpr int64_t kSpanBlocks = kSpanColumns / Format::kBlock;
  const int columns = (product.outputs + kLanes - 1) / kLanes;
  const int64_t blocks = product.groups * product.group_blocks;
  Wanted wanted;
  if (product.next != nullptr) {
    const int64_t bytes = product.groups * (kGroupHeadBytes + product.group_blocks * Format::kPackedBytes);
    wanted = Wanted::spread(product.next, bytes, (product.rows + kTileRows - 1) / kTileRows * blocks);
  }
  Format format(product);
  const Tiles tiles(kTileRows, Format::kBlock);
  for (int64_t begin = 0; begin < product.rows; begin += kChunkRows) {
    const int64_t end = begin + kChunkRows < product.rows ? begin + kChunkRows : product.rows;
    alignas(64) float sums[kChunkRows * kPanelOutputs] = {};
    // The last tile begins early enough to be whole, and computes some rows once more.
    const auto first_of = [&](int64_t row) { return row + kTileRows <= product.rows ? row : product.rows - kTileRows; };
    for (int64_t first = 0; first < blocks; first += kSpanBlocks) {
      const Span span = format.span(first, first + kSpanBlocks < blocks ? kSpanBlocks : blocks - first);
      for (int64_t row = begin; row < end; row += kTileRows) {
        const char* const x = static_cast<const char*>(product.x) + first_of(row) * product.x_stride;
        RowTile<Format> tile(format, x + first * RowTile<Format>::kBlockBytes, product.x_stride,
                             sums + (row - begin) * kPanelOutputs);
        tile.add(span, columns, wanted);
      }
    }
    for (int64_t row = begin; row < end; row += kTileRows) {
      finish_rows(format, product, sums + (row - begin) * kPanelOutputs, first_of(row));
    }
  }
}

}  // namespace

void multiply_panel_int8(const QuantizedProduct& product) {
  product.rows < kTileRows ? avx512_bf16::multiply_panel_int8(product) : multiply_panel<Int8>(product);
}

void multiply_panel_int4(const QuantizedProduct& product) {
  if (product.rows < kTileRows) return avx512_bf16::multiply_panel_int4(product);
  product.block == 32 ? multiply_panel<Int4<32>>(product) : multiply_panel<Int4<64>>(product);
}

}  // namespace molt::MOLT_ISA
