// Matrix products with quantized weights by tiles: what isa/quantized_gemm.cc is for vectors, on the same panels and
// the same rounded rows, and with the same results, bit for bit.
//
// A tile of 16 rows of codes meets the tiles of a panel's outputs, one block of columns at a time: a product of tiles
// is the whole sum of a block, an exact integer. It has to leave the tile registers to be scaled and added to float
// sums, block after block in order, and that takes longer than the product. So a tile's three steps are taken apart:
// while block b is multiplied, the sums of b - 1 are stored and those of b - 2 added, of which each part finds the one
// before it done.
//
// Weights of 4 bits are unpacked first, some hundred columns at a time for all rows of a chunk; their zero points are
// taken off in passing. Fewer rows than a tile's are left to the vector kernel.
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
constexpr int kSpanColumns = 768;
constexpr int64_t kChunkRows = 192;

/// The weights of a span of columns, as the tiles take them: steps of 4 columns, kPanelStepBytes each.
struct Span {
  const char* codes;
  int64_t blocks;
};

inline VecF load_scales(const char* at) {
  return float_of(reinterpret_cast<VecI>(load_u16(at, Whole{}) << 16));
}

/// Weights of 8 bits: lie in the panel as the tiles take them. Zero points are multiplied by a block's sum, and scales
/// applied last.
template <int kBlockColumns>
struct Int8 {
  static constexpr int kBlock = kBlockColumns;
  static constexpr int64_t kPackedBytes = kBlock / 4 * kPanelStepBytes;  // of a block, in the panel
  static constexpr bool kSignedWeights = false;

  const char* panel;

  explicit Int8(const QuantizedProduct& product) : panel(static_cast<const char*>(product.panel)) {}

  Span span(int64_t first, int64_t blocks) { return {panel + kGroupHeadBytes + first * kPackedBytes, blocks}; }

  struct Factors {
    VecI zeros[kColumnTiles];

    explicit Factors(const Int8& format) {
      for (int c = 0; c < kColumnTiles; ++c) {
        zeros[c] = reinterpret_cast<VecI>(widen_u8(format.panel + 2 * kPanelOutputs + c * kLanes));
      }
    }
    /// `sum` and the products of the span's block b, scaled, of tile `c` of outputs.
    [[gnu::always_inline]] VecF add(VecF sum, VecI dots, const BlockHead& head, int64_t /*b*/, int c) const {
      const auto factor = reinterpret_cast<__m512i>(head.negative_sum - VecI{});
      const auto exact = reinterpret_cast<VecI>(
          _mm512_dpwssd_epi32(reinterpret_cast<__m512i>(dots), reinterpret_cast<__m512i>(zeros[c]), factor));
      return sum + __builtin_convertvector(exact, VecF) * broadcast(head.scale);
    }
  };

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
    return {codes, blocks};
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

  struct Factors {
    const float* scales;

    explicit Factors(const Int4& format) : scales(format.scales) {}
    [[gnu::always_inline]] VecF add(VecF sum, VecI dots, const BlockHead& head, int64_t b, int c) const {
      const VecF scale = broadcast(head.scale) * load(scales + b * kPanelOutputs + c * kLanes);
      return sum + __builtin_convertvector(dots, VecF) * scale;
    }
  };

  [[gnu::always_inline]] VecF finish(VecF sum, int64_t /*output*/) const { return sum; }
};

template <class Format>
constexpr int64_t kRowBlockBytes = static_cast<int64_t>(sizeof(BlockHead)) + Format::kBlock;

/// A tile of rows by kColumns tiles of outputs.
template <class Format, int kColumns>
class RowTile {
 public:
  /// x: of the first row and of the span's first block. sums: [kTileRows, kPanelOutputs], added to.
  static void add(const Format& format, const Span& span, const char* x, int64_t x_stride, float* sums,
                  Wanted& wanted) {
    alignas(64) int32_t dots[2][kTileRows * kPanelOutputs];  // of the last two blocks that were multiplied
    const typename Format::Factors factors(format);
    const char* codes = span.codes;
    for (int64_t b = 0; b < span.blocks + 2; ++b) {
      wanted.fetch();
      const char* const block = x + b * kBlockBytes;
      if (b < span.blocks) load_tile<kA>(block + sizeof(BlockHead), x_stride);
      unrolled<kColumns>([&](auto c) {
        constexpr int kC = c.value;
        if (b >= 1 && b <= span.blocks)
          store_tile<kC>(dots[(b - 1) % 2] + kC * kLanes, kPanelOutputs * sizeof(int32_t));
        if (b < span.blocks) multiply<kC>(codes);
        if (b >= 2) {
          constexpr int kFirst = kTileRows * kC / kColumns;
          constexpr int kEnd = kTileRows * (kC + 1) / kColumns;
          const char* const before = block - 2 * kBlockBytes + kFirst * x_stride;
          add_rows<kEnd - kFirst>(factors, b - 2, dots[b % 2] + kFirst * kPanelOutputs, before, x_stride,
                                  sums + kFirst * kPanelOutputs);
        }
      });
      codes += Format::kBlock / 4 * kPanelStepBytes;
    }
  }

 private:
  static constexpr int kA = kColumnTiles;
  static constexpr int kFirstB = kA + 1;
  static constexpr int64_t kBlockBytes = kRowBlockBytes<Format>;

  template <int kC>
  [[gnu::always_inline]] static void multiply(const char* codes) {
    constexpr int kB = kFirstB + kC % (8 - kFirstB);
    load_tile<kB>(codes + kC * kTileBytes, kPanelStepBytes);
    clear_tile<kC>();
    if constexpr (Format::kSignedWeights) {
      multiply_signed<kC, kA, kB>();
    } else {
      multiply_unsigned<kC, kA, kB>();
    }
  }

  /// Adds the products of block b of the span to the sums of kRows rows. x: the block's heads.
  template <int kRows>
  [[gnu::always_inline]] static void add_rows(const typename Format::Factors& factors, int64_t b, const int32_t* dots,
                                              const char* x, int64_t x_stride, float* sums) {
    MOLT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto* const head = reinterpret_cast<const BlockHead*>(x);
      MOLT_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const int at = r * kPanelOutputs + c * kLanes;
        const VecI exact = bits_of(load(reinterpret_cast<const float*>(dots + at)));
        store(sums + at, factors.add(load(sums + at), exact, *head, b, c));
      }
      x += x_stride;
    }
  }
};

/// RowTile<Format, columns>::add for a number known only at run time.
template <class Format>
void add_tile(int columns, const Format& format, const Span& span, const char* x, int64_t x_stride, float* sums,
              Wanted& wanted) {
  switch (columns) {
    case 1: return RowTile<Format, 1>::add(format, span, x, x_stride, sums, wanted);
    case 2: return RowTile<Format, 2>::add(format, span, x, x_stride, sums, wanted);
    case 3: return RowTile<Format, 3>::add(format, span, x, x_stride, sums, wanted);
    default: return RowTile<Format, 4>::add(format, span, x, x_stride, sums, wanted);
  }
}

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
        add_tile(columns, format, span, x + first * kRowBlockBytes<Format>, product.x_stride,
                 sums + (row - begin) * kPanelOutputs, wanted);
      }
    }
    for (int64_t row = begin; row < end; row += kTileRows) {
      finish_rows(format, product, sums + (row - begin) * kPanelOutputs, first_of(row));
    }
  }
}

}  // namespace

void multiply_panel_int8(const QuantizedProduct& product) {
  if (product.rows < kTileRows) return avx512_bf16::multiply_panel_int8(product);
  product.block == 32 ? multiply_panel<Int8<32>>(product) : multiply_panel<Int8<64>>(product);
}

void multiply_panel_int4(const QuantizedProduct& product) {
  if (product.rows < kTileRows) return avx512_bf16::multiply_panel_int4(product);
  product.block == 32 ? multiply_panel<Int4<32>>(product) : multiply_panel<Int4<64>>(product);
}

}  // namespace molt::MOLT_ISA
