#include "kernels/cpu/channel_blocks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {

void CpuBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                                Matrix<float> y) const {
  const shapes::ScanShape shape = shapes::check_selective_scan(x, dt, A, B, C, rows, y);
  const Kernels& kernels = select_kernels();
  const std::int64_t cost = 15 * shape.states;
  for_channel_blocks(shape.channels, rows.offsets, cost, [&](std::size_t s, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = rows.offsets[s];
    kernels.selective_scan({
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
        .state = rows.states[s] + begin,
        .state_stride = shape.channels,
        .y = y.row(first) + begin,
        .y_stride = y.stride,
        .rows = rows.offsets[s + 1] - first,
        .channels = end - begin,
        .states = shape.states,
    });
  });
}

}  // namespace molt
