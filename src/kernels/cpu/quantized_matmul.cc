#include "kernels/cpu/quantized_matmul.h"

#include <cstddef>

#include "kernels/cpu/pieces.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// x, rounded: rows `stride` bytes apart.
struct RoundedInputs {
  const std::byte* data;
  std::int64_t stride;
};

/// Rounds x for products with `w` into this thread's scratch, where it stays until this thread's next call.
RoundedInputs round_inputs(const Kernels& kernels, Matrix<const float> x, const QuantizedPanels& w) {
  thread_local Scratch scratch;
  const std::int64_t blocks = w.groups() * w.group_blocks();
  const std::int64_t stride = blocks * (static_cast<std::int64_t>(sizeof(BlockHead)) + w.block() * kernels.code_bytes);
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  auto* const rounded = reinterpret_cast<std::byte*>(scratch.get(x.rows * stride / kFloatBytes));
  const std::int64_t grain = kLeastWork / std::max<std::int64_t>(1, 2 * x.cols) + 1;
  parallel_for(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      kernels.round_blocks(x.row(t), x.cols, w.block(), blocks, rounded + t * stride);
    }
  });
  return {rounded, stride};
}

}  // namespace

void quantized_matmul(Matrix<const float> x, const QuantizedPanels& w, const float* bias, Matrix<float> y,
                      std::int64_t first_out) {
  shapes::check_matmul(x, w, y, first_out);
  if (y.rows == 0 || y.cols == 0) return;

  const Kernels& kernels = select_kernels();
  const RoundedInputs inputs = round_inputs(kernels, x, w);
  const auto multiply = w.bits() == 8 ? kernels.multiply_panel_int8 : kernels.multiply_panel_int4;
  const std::int64_t rows = piece_rows(kernels, y.rows, inputs.stride);
  for_each_piece(y, first_out, x.cols, rows, [&](const Piece& piece) {
    multiply({
        .x = inputs.data + piece.row * inputs.stride,
        .x_stride = inputs.stride,
        .rows = piece.rows,
        .panel = w.panel(piece.panel),
        .next = piece.next < 0 ? nullptr : w.panel(piece.next),
        .groups = w.groups(),
        .group_blocks = w.group_blocks(),
        .block = w.block(),
        .outputs = piece.outputs,
        .bias = bias == nullptr ? nullptr : bias + piece.first_output(),
        .y = piece.y,
        .y_stride = piece.y_stride,
    });
  });
}

}  // namespace molt
