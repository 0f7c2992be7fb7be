#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "base/parallel.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/scratch.h"

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

}  // namespace

void panel_matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y) {
  const auto* panels = dynamic_cast<const PackedPanels*>(&w);
  MOLT_CHECK(panels != nullptr);
  MOLT_CHECK(x.cols == w.in_features() && y.cols == w.out_features() && x.rows == y.rows);
  MOLT_CHECK(x.stride >= x.cols && y.stride >= y.cols);
  if (y.rows == 0 || y.cols == 0) return;

  const Kernels& kernels = select_kernels();
  const bool bf16 = w.dtype() == DType::bf16;
  const auto multiply_panel = bf16 ? kernels.multiply_panel_bf16 : kernels.multiply_panel_f32;
  const Inputs inputs = bf16 ? round_inputs(kernels, x, 2 * panels->steps())
                             : Inputs{reinterpret_cast<const std::byte*>(x.data), x.stride, sizeof(float)};

  // A piece is one panel for one tile of rows. Tiles come in the order of rows, each with all panels: its rows of x
  // stay in the cache meanwhile.
  const std::int64_t tiles = (x.rows + kTileRows - 1) / kTileRows;
  const std::int64_t pieces = tiles * panels->panels();
  const std::int64_t grain = pieces_a_task(pieces, std::min(x.rows, kTileRows) * x.cols * kPanelOutputs);
  parallel_for(pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t row = piece / panels->panels() * kTileRows;
      const std::int64_t panel = piece % panels->panels();
      const std::int64_t output = panel * kPanelOutputs;
      multiply_panel({
          .x = inputs.data + row * inputs.stride * inputs.element_bytes,
          .x_stride = inputs.stride,
          .rows = std::min(kTileRows, x.rows - row),
          .panel = panels->panel(panel),
          .next = piece + 1 < end ? panels->panel((panel + 1) % panels->panels()) : nullptr,
          .steps = panels->steps(),
          .outputs = static_cast<int>(std::min<std::int64_t>(kPanelOutputs, y.cols - output)),
          .bias = bias == nullptr ? nullptr : bias + output,
          .y = y.row(row) + output,
          .y_stride = y.stride,
      });
    }
  });
}

}  // namespace molt
