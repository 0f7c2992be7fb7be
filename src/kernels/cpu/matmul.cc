#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "base/parallel.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/scratch.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

// Rows of x that pass over a panel together. Large, so that weights are seldom read again; a multiple of the rows of
// every instruction set's tile.
constexpr std::int64_t kTileRows = 192;

// The least work, in multiply-adds of a large product, that is worth handing to another thread: some 3 microseconds.
constexpr std::int64_t kLeastWork = 50'000;

/// x as the kernels want it: rows of whole steps, `stride` elements of `element_bytes` apart.
struct Inputs {
  const std::byte* data;
  std::int64_t stride;
  std::int64_t element_bytes;
};

/// Rounds x to bfloat16 for `kernels`, padded with zeros to `padded` columns, into this thread's scratch, where it
/// stays until this thread's next call.
Inputs round_inputs(const Kernels& kernels, Matrix<const float> x, std::int64_t padded) {
  thread_local Scratch scratch;
  const std::int64_t row_bytes = padded * kernels.rounded_bytes;
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  auto* const rounded = reinterpret_cast<std::byte*>(scratch.get((x.rows * row_bytes + kFloatBytes - 1) / kFloatBytes));
  const std::int64_t grain = kLeastWork / std::max<std::int64_t>(1, x.cols) + 1;
  parallel_for(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) kernels.round_row(x.row(t), x.cols, padded, rounded + t * row_bytes);
  });
  return {rounded, padded, kernels.rounded_bytes};
}

/// How many of `count` equal pieces of `work` multiply-adds make a task. Few enough that the threads end together even
/// when one loses its core for a while, many enough to be worth a hand-over; neighbours, because each prefetches the
/// next.
std::int64_t pieces_a_task(std::int64_t count, std::int64_t work) {
  constexpr std::int64_t kTasksAThread = 12;
  const std::int64_t threads = num_threads();
  if (threads == 1) return count;
  const std::int64_t worthwhile = std::max<std::int64_t>(1, count * work / kLeastWork);
  std::int64_t tasks = std::min({count, worthwhile, threads * kTasksAThread});
  if (tasks > threads && tasks < count) tasks = tasks / threads * threads;
  return (count + tasks - 1) / tasks;
}

/// One tile of rows by one panel.
struct Piece {
  std::int64_t row, panel;
  bool last;  // of its task
};

/// A product at hand: outputs [first_out, first_out + y.cols) of all rows.
struct Product {
  const Kernels& kernels;
  const PackedPanels& panels;
  Inputs x;
  const float* bias;
  Matrix<float> y;
  std::int64_t first_out;

  std::int64_t first_panel() const { return first_out / kPanelOutputs; }
  std::int64_t end_panel() const { return (first_out + y.cols + kPanelOutputs - 1) / kPanelOutputs; }

  void run(const Piece& piece) const {
    const std::int64_t output = piece.panel * kPanelOutputs;
    const std::int64_t next = piece.panel + 1 < end_panel() ? piece.panel + 1 : first_panel();
    PanelProduct product{
        .x = x.data + piece.row * x.stride * x.element_bytes,
        .x_stride = x.stride,
        .rows = std::min(kTileRows, y.rows - piece.row),
        .panel = panels.panel(piece.panel),
        .next = piece.last ? nullptr : panels.panel(next),
        .steps = panels.steps(),
        .outputs = static_cast<int>(std::min<std::int64_t>(kPanelOutputs, first_out + y.cols - output)),
        .bias = bias == nullptr ? nullptr : bias + output,
        .y = nullptr,
        .y_stride = y.stride,
    };
    if (output < first_out) {
      run_from_within(product, piece.row);
    } else {
      product.y = y.row(piece.row) + (output - first_out);
      multiply(product);
    }
  }

 private:
  void multiply(const PanelProduct& product) const {
    panels.dtype() == DType::bf16 ? kernels.multiply_panel_bf16(product) : kernels.multiply_panel_f32(product);
  }

  /// The first panel, of which only the last outputs are wanted: computed whole, to one side.
  void run_from_within(PanelProduct product, std::int64_t row) const {
    thread_local Scratch scratch;
    product.y = scratch.get(kTileRows * kPanelOutputs);
    product.y_stride = kPanelOutputs;
    multiply(product);
    const std::int64_t skipped = first_out % kPanelOutputs;
    for (std::int64_t t = 0; t < product.rows; ++t) {
      const float* from = product.y + t * kPanelOutputs;
      std::copy(from + skipped, from + product.outputs, y.row(row + t));
    }
  }
};

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
  const Product product{kernels, *panels, inputs, bias, y, first_out};

  // A piece is one panel for one tile of rows. Tiles come in the order of rows, each with all panels: its rows of x
  // stay in the cache meanwhile.
  const std::int64_t tiles = (x.rows + kTileRows - 1) / kTileRows;
  const std::int64_t width = product.end_panel() - product.first_panel();
  const std::int64_t pieces = tiles * width;
  const std::int64_t grain = pieces_a_task(pieces, std::min(x.rows, kTileRows) * x.cols * kPanelOutputs);
  parallel_for(pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      product.run({i / width * kTileRows, product.first_panel() + i % width, i + 1 == end});
    }
  });
}

}  // namespace molt
