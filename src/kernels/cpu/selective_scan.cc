#include "kernels/cpu/channel_blocks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rounded_state.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

/// Runs the scan of channels from `first` on from a state in bfloat16. A single row goes through the state as it lies,
/// several through a wider copy.
void scan_rounded(const Kernels& kernels, const RoundedState& state, std::int64_t first, ScanSequence sequence) {
  if (sequence.rows == 1) {
    sequence.rounded = elements_at(state, first, first);
    kernels.selective_scan(sequence);
    return;
  }
  thread_local Scratch scratch;
  const RoundedColumns columns{state, first, sequence.state_stride, first, sequence.channels, sequence.states};
  sequence.state = scratch.get(sequence.states * sequence.channels);
  sequence.state_stride = sequence.channels;
  columns.widen(kernels, sequence.state);
  kernels.selective_scan(sequence);
  columns.round_back(kernels, sequence.state);
}

}  // namespace

void CpuBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                                Matrix<float> y) const {
  const shapes::ScanShape shape = shapes::check_selective_scan(x, dt, A, B, C, rows, y);
  const Kernels& kernels = select_kernels();
  const std::int64_t cost = 15 * shape.states;
  for_channel_blocks(shape.channels, rows.offsets, cost, [&](std::size_t s, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = rows.offsets[s];
    ScanSequence sequence{
        .x = x.row(first) + begin,
        .x_stride = x.stride,
        .dt = dt.row(first) + begin,
        .dt_stride = dt.stride,
        .A = A.data + begin,
        .A_stride = A.stride,
        .B = B.row(first),
        .B_stride = B.stride,
        .C = C.row(first),
        .C_stride = C.stride,
        .D = D == nullptr ? nullptr : D + begin,
        .m = rows.multiplicity == nullptr ? nullptr : rows.multiplicity + first,
        .wanted = rows.wanted == nullptr ? nullptr : rows.wanted + first,
        .state = nullptr,
        .state_stride = shape.channels,
        .rounded = {},
        .y = y.row(first) + begin,
        .y_stride = y.stride,
        .rows = rows.offsets[s + 1] - first,
        .channels = end - begin,
        .states = shape.states,
    };
    if (!rows.rounded.empty()) {
      scan_rounded(kernels, rows.rounded[s], begin, sequence);
    } else {
      sequence.state = rows.states[s] + begin;
      kernels.selective_scan(sequence);
    }
  });
}

}  // namespace molt
