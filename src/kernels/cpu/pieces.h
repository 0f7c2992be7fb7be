// How a product on panels is dealt out: pieces of one tile of rows by one panel.
//
// Any thread may compute any piece; what a piece yields depends on nothing else.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/scratch.h"
#include "tensor/tensor.h"

namespace molt {

// The least work, in multiply-adds of a large product, that is worth handing to another thread: some 3 microseconds.
inline constexpr std::int64_t kLeastWork = 50'000;

/// Rows [row, row + rows) by the first `outputs` outputs of a panel.
struct Piece {
  std::int64_t row, rows;
  std::int64_t panel;
  std::int64_t next;  // the panel that this thread will take next, or -1
  int outputs;
  float* y;  // of the first row and output
  std::int64_t y_stride;

  std::int64_t first_output() const { return panel * kPanelOutputs; }
};

/// How many of `rows` rows of x, of `row_bytes` as the kernels read them, pass over a panel together: equally many each
/// time, a multiple of the rows of every instruction set's tile.
inline std::int64_t piece_rows(const Kernels& kernels, std::int64_t rows, std::int64_t row_bytes) {
  constexpr std::int64_t kMultiple = 96;
  const std::int64_t by_bytes = kernels.piece_bytes / std::max<std::int64_t>(1, row_bytes) / kMultiple * kMultiple;
  const std::int64_t most = std::clamp(by_bytes, kMultiple, kernels.piece_rows);
  const std::int64_t passes = std::max<std::int64_t>(1, (rows + most - 1) / most);
  return ((rows + passes - 1) / passes + kMultiple - 1) / kMultiple * kMultiple;
}

/// How many of `count` equal pieces of `work` multiply-adds make a task. Few enough that the threads end together even
/// when one loses its core for a while, many enough to be worth a hand-over; neighbours, because each prefetches the
/// next.
inline std::int64_t pieces_a_task(std::int64_t count, std::int64_t work) {
  constexpr std::int64_t kTasksAThread = 12;
  const std::int64_t threads = num_threads();
  if (threads == 1) return count;
  const std::int64_t worthwhile = std::max<std::int64_t>(1, count * work / kLeastWork);
  std::int64_t tasks = std::min({count, worthwhile, threads * kTasksAThread});
  if (tasks > threads && tasks < count) tasks = tasks / threads * threads;
  return (count + tasks - 1) / tasks;
}

/// Calls multiply(piece) for the pieces, of `most_rows` rows, that yield y, which is outputs [first_out, first_out +
/// y.cols) of a product over `depth` columns of x.
template <class Multiply>
void for_each_piece(Matrix<float> y, std::int64_t first_out, std::int64_t depth, std::int64_t most_rows,
                    Multiply multiply) {
  const std::int64_t first_panel = first_out / kPanelOutputs;
  const std::int64_t end_panel = (first_out + y.cols + kPanelOutputs - 1) / kPanelOutputs;
  const auto compute = [&](std::int64_t row, std::int64_t panel, bool last) {
    const std::int64_t output = panel * kPanelOutputs;
    Piece piece{
        .row = row,
        .rows = std::min(most_rows, y.rows - row),
        .panel = panel,
        .next = last                    ? -1
                : panel + 1 < end_panel ? panel + 1
                                        : first_panel,
        .outputs = static_cast<int>(std::min<std::int64_t>(kPanelOutputs, first_out + y.cols - output)),
        .y = nullptr,
        .y_stride = y.stride,
    };
    if (output >= first_out) {
      piece.y = y.row(row) + (output - first_out);
      return multiply(piece);
    }
    // The first panel, of which only the last outputs are wanted: computed whole, to one side.
    thread_local Scratch scratch;
    piece.y = scratch.get(piece.rows * kPanelOutputs);
    piece.y_stride = kPanelOutputs;
    multiply(piece);
    for (std::int64_t t = 0; t < piece.rows; ++t) {
      const float* from = piece.y + t * kPanelOutputs;
      std::copy(from + (first_out - output), from + piece.outputs, y.row(row + t));
    }
  };
  // Tiles come in the order of rows, each with all panels: its rows of x stay in the cache meanwhile.
  const std::int64_t tiles = (y.rows + most_rows - 1) / most_rows;
  const std::int64_t width = end_panel - first_panel;
  const std::int64_t pieces = tiles * width;
  const std::int64_t grain = pieces_a_task(pieces, std::min(y.rows, most_rows) * depth * kPanelOutputs);
  parallel_for(pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) compute(i / width * most_rows, first_panel + i % width, i + 1 == end);
  });
}

}  // namespace molt
