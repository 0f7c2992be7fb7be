#include "kernels/cpu/matmul.h"

#include <cstddef>

#include "base/check.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/pieces.h"
#include "kernels/cpu/rounded_rows.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// x as the kernels want it: rows of whole steps, `stride` elements of `element_bytes` apart.
struct Inputs {
  const std::byte* data;
  std::int64_t stride;
  std::int64_t element_bytes;
};

/// x rounded to bfloat16, in this thread's scratch, where it stays until this thread's next call.
Inputs round_inputs(const Kernels& kernels, Matrix<const float> x) {
  thread_local Scratch scratch;
  const RoundedRows rounded(kernels, x.cols, x.rows, scratch);
  const std::int64_t grain = kLeastWork / std::max<std::int64_t>(1, x.cols) + 1;
  parallel_for(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) rounded.round(t, x.row(t));
  });
  return {rounded.row(0), rounded.stride(), kernels.rounded_bytes};
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
                            ? round_inputs(kernels, x)
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
