#include "kernels/cuda/coded_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/parallel.h"
#include "kernels/cuda/memory.h"

namespace molt::cuda {
namespace {

constexpr int kHalfInputs = kChunkInputs / 2;
constexpr int kFour = 4;
constexpr std::int64_t kZeroOfBytes = 128;

/// Where the weight of input `k` of a chunk lies: in whose lane's share, of the four of an output, and where in it.
struct Place {
  int q, i;
  explicit Place(int k) : q(k % kHalfInputs / 8), i(k / kHalfInputs * 8 + k % 8) {}
};

/// The pair of four columns' weights in bfloat16; nothing where there are more than two. What is missing counts as a
/// zero in one of the first columns.
struct Pair {
  int code;
  std::array<std::uint16_t, 2> weights;
};

std::optional<Pair> find_pair(const std::array<std::uint16_t, kFour>& four) {
  for (int code = 0; code < static_cast<int>(kPairColumns.size()); ++code) {
    const auto [a, b] = kPairColumns[static_cast<std::size_t>(code)];
    bool fits = true;
    for (int i = 0; i < kFour; ++i) fits &= i == a || i == b || (four[static_cast<std::size_t>(i)] & 0x7fffU) == 0;
    if (fits) return Pair{code, {four[static_cast<std::size_t>(a)], four[static_cast<std::size_t>(b)]}};
  }
  return std::nullopt;
}

/// Columns k .. k + 3 of a row of `cols`, zeros behind its end.
std::array<std::uint16_t, kFour> four_of(const std::byte* row, std::int64_t k, std::int64_t cols) {
  std::array<std::uint16_t, kFour> four{};
  std::memcpy(four.data(), row + 2 * k, static_cast<std::size_t>(2 * std::min<std::int64_t>(kFour, cols - k)));
  return four;
}

bool is_paired(const std::byte* row, std::int64_t cols) {
  for (std::int64_t k = 0; k < cols; k += kFour) {
    if (!find_pair(four_of(row, k, cols))) return false;
  }
  return true;
}

Tensor narrow(const Tensor& weight) {
  if (weight.dtype() == DType::bf16) return weight;
  return weight.dtype() == DType::f64 ? weight.to_f32().to_bf16() : weight.to_bf16();
}

/// Fills the tiles of a matrix, one after another on all threads: fill(tile).
template <class Fill>
void for_tiles(const CodedSize& size, Fill fill) {
  parallel_for(size.tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) fill(tile);
  });
}

/// Calls body(output, its place g in the tile).
template <class Body>
void for_outputs(const CodedSize& size, std::int64_t tile, Body body) {
  const std::int64_t first = tile * kTileOutputs;
  for (int g = 0; g < std::min<std::int64_t>(kTileOutputs, size.out - first); ++g) body(first + g, g);
}

void pack_tile(const QuantizedMatrix& weight, const CodedSize& size, std::int64_t tile, std::byte* codes) {
  const auto* const from = weight.codes.as<std::uint8_t>();
  for_outputs(size, tile, [&](std::int64_t n, int g) {
    for (std::int64_t k = 0; k < size.in; ++k) {
      const Place place(static_cast<int>(k % kChunkInputs));
      const std::int64_t lane = (tile * size.chunks() + k / kChunkInputs) * 32 + 4 * g + place.q;
      std::byte* const own = codes + lane * size.lane_bytes();
      const std::uint8_t code = from[n * size.in + k];
      if (size.coding == Coding::bytes) {
        own[place.i] = std::byte{code};
      } else {
        const int nibble = place.i % 8 / 2 + place.i % 2 * 4;
        own[place.i / 8 * 4 + nibble / 2] |= static_cast<std::byte>(code << (nibble % 2 * 4));
      }
    }
  });
}

/// Of a tile of nibbles, [chunks, halves, 8].
void pack_grids(const QuantizedMatrix& weight, const CodedSize& size, std::int64_t tile, std::uint16_t* grids) {
  const std::int64_t group = weight.group(), step = kChunkInputs / size.halves;
  for_outputs(size, tile, [&](std::int64_t n, int g) {
    for (std::int64_t part = 0; part < size.chunks() * size.halves; ++part) {
      if (part * step >= size.in) continue;
      const std::int64_t at = n * weight.groups() + part * step / group;
      std::uint16_t* const grid = grids + ((tile * size.chunks() * size.halves + part) * kTileOutputs + g) * 2;
      grid[0] = weight.scales.as<BFloat16>()[at].bits;
      grid[1] = BFloat16::from_float(static_cast<float>(128 + weight.zeros.as<std::uint8_t>()[at])).bits;
    }
  });
}

void pack_pairs(const std::byte* weights, const CodedSize& size, std::int64_t tile, std::byte* codes,
                std::uint16_t* columns) {
  for_outputs(size, tile, [&](std::int64_t n, int g) {
    for (std::int64_t k = 0; k < size.in; k += kFour) {
      const Pair pair = find_pair(four_of(weights + 2 * n * size.in, k, size.in)).value();
      const Place place(static_cast<int>(k % kChunkInputs));
      const std::int64_t lane = (tile * size.chunks() + k / kChunkInputs) * 32 + 4 * g + place.q;
      std::memcpy(codes + lane * size.lane_bytes() + place.i, pair.weights.data(), sizeof(pair.weights));
      columns[lane] = static_cast<std::uint16_t>(columns[lane] | pair.code << place.i);
    }
  });
}

}  // namespace

std::int64_t CodedSize::side_bytes() const {
  switch (coding) {
    case Coding::bytes: return tiles() * kTileOutputs * 4;
    case Coding::nibbles: return tiles() * chunks() * halves * kTileOutputs * 4;
    case Coding::pairs: return tiles() * chunks() * 32 * 2;
  }
  return 0;
}

std::optional<CodedSize> coded_size(const QuantizedMatrix& weight) {
  const std::int64_t out = weight.out_features(), in = weight.in_features();
  if (weight.format.bits == 4) return CodedSize{Coding::nibbles, out, in, weight.format.group == 32 ? 2 : 1};
  const auto* const zeros = weight.zeros.as<std::uint8_t>();
  if (!std::all_of(zeros, zeros + out, [](std::uint8_t zero) { return zero == kZeroOfBytes; })) return std::nullopt;
  return CodedSize{Coding::bytes, out, in};
}

std::optional<CodedSize> coded_size(const Tensor& weight) {
  const std::int64_t out = weight.shape()[0], in = weight.shape()[1];
  if (out == 0 || in < kChunkInputs) return std::nullopt;
  const std::int64_t row_bytes = in * size_of(weight.dtype());
  const auto row_is_paired = [&](std::int64_t n) {
    const Tensor row = narrow(Tensor(weight.dtype(), {1, in}, weight.data() + n * row_bytes, nullptr));
    return is_paired(row.data(), in);
  };
  // Some rows, spread over the matrix: dense matrices are recognised before they are read.
  for (std::int64_t n = 0; n < out; n += std::max<std::int64_t>(1, out / 8)) {
    if (!row_is_paired(n)) return std::nullopt;
  }
  std::atomic<bool> paired = true;
  parallel_for(out, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end && paired; ++n) {
      if (!row_is_paired(n)) paired = false;
    }
  });
  if (!paired) return std::nullopt;
  return CodedSize{Coding::pairs, out, in};
}

CodedRows::CodedRows(const QuantizedMatrix& weight, const CodedSize& size) : size_(size) {
  const Tensor codes = Tensor::zeros(DType::u8, {size.code_bytes()}),
               side = Tensor::zeros(DType::u8, {size.side_bytes()});
  for_tiles(size, [&](std::int64_t tile) {
    pack_tile(weight, size, tile, codes.data());
    if (size.coding == Coding::nibbles) {
      pack_grids(weight, size, tile, reinterpret_cast<std::uint16_t*>(side.data()));
    } else {
      for_outputs(size, tile, [&](std::int64_t n, int /*g*/) {
        reinterpret_cast<float*>(side.data())[n] = weight.scales.as<BFloat16>()[n].to_float();
      });
    }
  });
  codes_ = device_memory().place(codes);
  side_ = device_memory().place(side);
}

CodedRows::CodedRows(const Tensor& weight, const CodedSize& size) : size_(size) {
  const Tensor values = narrow(weight);
  const Tensor codes = Tensor::zeros(DType::u8, {size.code_bytes()}),
               side = Tensor::zeros(DType::u8, {size.side_bytes()});
  for_tiles(size, [&](std::int64_t tile) {
    pack_pairs(values.data(), size, tile, codes.data(), reinterpret_cast<std::uint16_t*>(side.data()));
  });
  codes_ = device_memory().place(codes);
  side_ = device_memory().place(side);
}

}  // namespace molt::cuda
