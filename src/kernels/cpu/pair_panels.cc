#include "kernels/cpu/pair_panels.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "kernels/cpu/elements.h"
#include "kernels/cpu/pieces.h"
#include "kernels/cpu/weight_memory.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

constexpr std::int64_t kGroup = 4;

/// A group's code and its two weights; no weight counts as one of the first columns.
struct Pair {
  std::uint32_t code = 0;
  std::array<BFloat16, 2> weights;
};

/// The pair of a group of `size` columns; false where there are more than two weights.
bool find_pair(const float* group, std::int64_t size, Pair& pair) {
  constexpr std::uint32_t kCodes[4][4] = {{0, 0, 1, 2}, {0, 0, 3, 4}, {1, 3, 0, 5}, {2, 4, 5, 0}};
  std::array<std::int64_t, 2> columns{};
  std::size_t count = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    if (group[i] == 0) continue;
    if (count == 2) return false;
    columns[count++] = i;
  }
  // Fewer than two: any other column stands beside, with what it has, a zero.
  if (count == 0) columns = {0, 1};
  if (count == 1)
    columns = columns[0] == 0 ? std::array<std::int64_t, 2>{0, 1} : std::array{std::int64_t{0}, columns[0]};
  pair.code = kCodes[columns[0]][columns[1]];
  for (std::size_t i = 0; i < 2; ++i) {
    pair.weights[i] = columns[i] < size ? BFloat16::from_float(group[columns[i]]) : BFloat16{};
  }
  return true;
}

/// Fills a panel, all zero before, from `rows` rows (<= 64) of `in_features` elements T; false where they are not 2:4.
template <class T>
bool pack_panel(const std::byte* source, std::int64_t in_features, std::int64_t rows, std::byte* panel) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::byte* from = source + row * in_features * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t k = 0; k < in_features; k += kGroup) {
      const std::int64_t size = std::min(kGroup, in_features - k);
      std::array<T, kGroup> values{};
      std::memcpy(values.data(), from + k * static_cast<std::int64_t>(sizeof(T)),
                  static_cast<std::size_t>(size) * sizeof(T));
      std::array<float, kGroup> group{};
      std::transform(values.begin(), values.end(), group.begin(), [](T value) { return to_float(value); });
      Pair pair;
      if (!find_pair(group.data(), size, pair)) return false;
      std::byte* const block = panel + k / kPairBlockColumns * (1 + kPairBlockGroups) * kPanelStepBytes + row * 4;
      const std::int64_t in_block = k % kPairBlockColumns / kGroup;
      std::uint32_t codes = 0;
      std::memcpy(&codes, block, sizeof(codes));
      codes |= pair.code << (4 * in_block);
      std::memcpy(block, &codes, sizeof(codes));
      std::memcpy(block + (1 + in_block) * kPanelStepBytes, pair.weights.data(), sizeof(pair.weights));
    }
  }
  return true;
}

auto panel_packer(DType from) {
  switch (from) {
    case DType::f32: return pack_panel<float>;
    case DType::f64: return pack_panel<double>;
    case DType::bf16: return pack_panel<BFloat16>;
    case DType::f16: return pack_panel<Float16>;
    default: MOLT_CHECK(false);
  }
}

/// Whether some rows, spread over the matrix, are 2:4: dense matrices are recognised before they are read.
bool seems_paired(const Tensor& weight) {
  const std::int64_t rows = weight.shape()[0];
  const std::int64_t row_bytes = weight.shape()[1] * size_of(weight.dtype());
  const auto pack = panel_packer(weight.dtype());
  std::vector<std::byte> panel(
      static_cast<std::size_t>((weight.shape()[1] / kPairBlockColumns + 1) * (1 + kPairBlockGroups) * kPanelStepBytes));
  for (std::int64_t row = 0; row < rows; row += std::max<std::int64_t>(1, rows / 8)) {
    if (!pack(weight.data() + row * row_bytes, weight.shape()[1], 1, panel.data())) return false;
  }
  return true;
}

/// The pairs of x's columns, in this thread's scratch, where they stay until this thread's next call.
const std::int32_t* pair_inputs(const Kernels& kernels, Matrix<const float> x, std::int64_t blocks,
                                std::int64_t stride) {
  thread_local Scratch scratch;
  static_assert(sizeof(float) == sizeof(std::int32_t));
  auto* const pairs = reinterpret_cast<std::int32_t*>(scratch.get(x.rows * stride));
  const std::int64_t grain = kLeastWork / std::max<std::int64_t>(1, 4 * x.cols) + 1;
  parallel_for(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.pair_columns(x.row(t), x.cols, blocks, pairs + t * stride);
  });
  return pairs;
}

}  // namespace

PairPanels::PairPanels(std::int64_t out_features, std::int64_t in_features)
    : out_features_(out_features), in_features_(in_features), data_(allocate_weights(bytes())) {}

std::unique_ptr<PackedMatrix> pack_pairs(const Tensor& weight) {
  MOLT_CHECK(weight.shape().size() == 2);
  const DType from = weight.dtype();
  const bool floating = from == DType::f32 || from == DType::f64 || from == DType::bf16 || from == DType::f16;
  const std::int64_t outputs = weight.shape()[0];
  const std::int64_t inputs = weight.shape()[1];
  if (!floating || outputs == 0 || inputs < kPairBlockColumns || !seems_paired(weight)) return nullptr;
  std::unique_ptr<PairPanels> packed(new PairPanels(outputs, inputs));
  const auto pack = panel_packer(from);
  std::atomic<bool> paired = true;
  parallel_for(packed->panels(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end && paired; ++p) {
      std::byte* const panel = packed->data_.get() + p * packed->panel_bytes();
      std::memset(panel, 0, static_cast<std::size_t>(packed->panel_bytes()));
      const std::int64_t first = p * kPanelOutputs;
      const std::int64_t rows = std::min<std::int64_t>(kPanelOutputs, outputs - first);
      if (!pack(weight.data() + first * inputs * size_of(from), inputs, rows, panel)) paired = false;
    }
  });
  if (!paired) return nullptr;
  return packed;
}

void pair_matmul(Matrix<const float> x, const PairPanels& w, const float* bias, Matrix<float> y,
                 std::int64_t first_out) {
  shapes::check_matmul(x, w, y, first_out);
  if (y.rows == 0 || y.cols == 0) return;
  const Kernels& kernels = select_kernels();
  const std::int64_t stride = w.blocks() * kPairBlockGroups * kPairsAGroup;
  const std::int32_t* const pairs = pair_inputs(kernels, x, w.blocks(), stride);
  const std::int64_t rows = piece_rows(kernels, y.rows, stride * static_cast<std::int64_t>(sizeof(std::int32_t)));
  for_each_piece(y, first_out, x.cols, rows, [&](const Piece& piece) {
    kernels.multiply_panel_pairs({
        .x = pairs + piece.row * stride,
        .x_stride = stride,
        .rows = piece.rows,
        .panel = w.panel(piece.panel),
        .blocks = w.blocks(),
        .outputs = piece.outputs,
        .bias = bias == nullptr ? nullptr : bias + piece.first_output(),
        .y = piece.y,
        .y_stride = piece.y_stride,
    });
  });
}

}  // namespace molt
