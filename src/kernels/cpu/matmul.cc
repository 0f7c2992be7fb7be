#include "kernels/cpu/matmul.h"

#include <cstddef>

#include "base/check.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/pieces.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// x as the kernels want it: rows of whole steps, `stride` elements of `element_bytes` apart.
struct Inputs {
  const std::byte* data;
  std::int64_t stride;
  std::int64_t element_bytes;
};

/// Rounds x to bfloat16 for `kernels`, padded with zeros to `padded` columns, into this thread's scratch, where it
/// stays until this thread's next call. Between rows lies a cache line, so that those of a tile, read side by side, do
/// not meet in the same few places of a cache.
Inputs round_inputs(const Kernels& kernels, Matrix<const float> x, std::int64_t padded) {
  constexpr std::int64_t kGap = 32;
  thread_local Scratch scratch;
  const std::int64_t stride = padded + kGap;
  const std::int64_t row_bytes = stride * kernels.rounded_bytes;
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  auto* const rounded = reinterpret_cast<std::byte*>(scratch.get((x.rows * row_bytes + kFloatBytes - 1) / kFloatBytes));
  const std::int64_t grain = kLeastWork / std::max<std::int64_t>(1, x.cols) + 1;
  parallel_for(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.round_row(x.row(t), x.cols, padded, rounded + t * row_bytes);
  });
  return {rounded, stride, kernels.rounded_bytes};
}

}  // namespace

void panel_matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                  std::int64_t first_out) {
  const auto* panels = dynamic_cast<const PackedPanels*>(&w);
  MOLT_CHECK(panels != nullptr);
  shapes::check_matmul(x, w, y, first_out);
  if (y.rows == 0 || y.cols == 0) return;

  const Kernels& kernels = select_kernels();
  const Inputs inputs = w.dtype() == DType::bf16
                            ? round_inputs(kernels, x, 2 * panels->steps())
                            : Inputs{reinterpret_cast<const std::byte*>(x.data), x.stride, sizeof(float)};
  const auto multiply = w.dtype() == DType::bf16 ? kernels.multiply_panel_bf16 : kernels.multiply_panel_f32;
  const std::int64_t rows = piece_rows(kernels, y.rows, inputs.stride * inputs.element_bytes);
  for_each_piece(y, first_out, x.cols, rows, [&](const Piece& piece) {
    multiply({
        .x = inputs.data + piece.row * inputs.stride * inputs.element_bytes,
        .x_stride = inputs.stride,
        .rows = piece.rows,
        .panel = panels->panel(piece.panel),
        .next = piece.next < 0 ? nullptr : panels->panel(piece.next),
        .steps = panels->steps(),
        .outputs = piece.outputs,
        .bias = bias == nullptr ? nullptr : bias + piece.first_output(),
        .y = piece.y,
        .y_stride = piece.y_stride,
    });
  });
}

}  // namespace molt
