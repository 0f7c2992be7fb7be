// CodedRows: the CUDA backend's layout of weights that are stored in fewer bits than bfloat16 has: quantized ones (8
// bits; 4 bits in groups of columns), and such of bfloat16 that hold two weights of every four columns at most (2:4).
//
// W [N, K] is cut into tiles of 8 outputs by chunks of 64 inputs, padded with zeros. In a tile a lane of a warp owns 16
// weights: lane 4g + q those of output g for the inputs 8q .. 8q + 7 and 32 + 8q .. 32 + 8q + 7, in this order; they
// lie together, those of the lanes behind each other, those of a tile's chunks likewise:
//   bytes    16 bytes a lane: codes
//   nibbles  8 bytes a lane, half of them for each eight: a word whose nibble p is input 2p's code, p + 4 input 2p +
//   1's pairs    16 bytes a lane: of each four inputs the two weights
// What else belongs to them lies in a table beside them:
//   bytes    [N] float: scales; zero points are all 128
//   nibbles  [tiles, chunks, halves, 8]: bfloat16 scale, bfloat16 128 + zero point; halves: 2 for groups of 32, else 1
//   pairs    [tiles, chunks, 32]: 16 bits, a nibble for each four inputs: which columns the two weights belong to, as
//            kPairColumns has it
#pragma once

#include <array>
#include <optional>

#include "kernels/backend.h"

namespace molt::cuda {

enum class Coding { bytes, nibbles, pairs };

/// Rows of a product that multiply coded weights as they are; for more of them weights are widened.
constexpr std::int64_t kMostCodedRows = 16;

constexpr int kTileOutputs = 8;
constexpr int kChunkInputs = 64;
constexpr int kLaneWeights = 16;

/// The columns, of four, of a pair's weights.
constexpr std::array<std::array<int, 2>, 6> kPairColumns = {{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}};

/// The bytes of a matrix in a coding.
struct CodedSize {
  Coding coding;
  std::int64_t out, in;
  int halves = 1;  // of nibbles: scales a chunk

  std::int64_t tiles() const { return (out + kTileOutputs - 1) / kTileOutputs; }
  std::int64_t chunks() const { return (in + kChunkInputs - 1) / kChunkInputs; }
  std::int64_t lane_bytes() const { return coding == Coding::nibbles ? 8 : 16; }
  std::int64_t code_bytes() const { return tiles() * chunks() * 32 * lane_bytes(); }
  std::int64_t side_bytes() const;
  std::int64_t bytes() const { return code_bytes() + side_bytes(); }
};

/// How a matrix would be packed; nothing where it would not be: zero points that are not 128.
std::optional<CodedSize> coded_size(const QuantizedMatrix& weight);

/// The same of weights [N, K] that are to be packed in bfloat16: nothing where they are not 2:4, which is soon seen, or
/// narrower than a chunk.
std::optional<CodedSize> coded_size(const Tensor& weight);

/// Immutable once packed.
class CodedRows final : public PackedMatrix {
 public:
  /// `size`: coded_size() of the same.
  CodedRows(const QuantizedMatrix& weight, const CodedSize& size);
  CodedRows(const Tensor& weight, const CodedSize& size);

  /// One that this backend has packed so, or null.
  static const CodedRows* of(const PackedMatrix& matrix) { return dynamic_cast<const CodedRows*>(&matrix); }

  std::int64_t out_features() const override { return size_.out; }
  std::int64_t in_features() const override { return size_.in; }
  DType dtype() const override { return size_.coding == Coding::pairs ? DType::bf16 : DType::u8; }
  std::int64_t bytes() const override { return size_.bytes(); }

  const CodedSize& size() const { return size_; }
  const std::byte* codes() const { return codes_.data(); }
  const std::byte* side() const { return side_.data(); }

 private:
  CodedSize size_;
  Tensor codes_, side_;  // u8, on the device
};

}  // namespace molt::cuda
