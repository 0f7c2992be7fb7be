#include "kernels/cpu/channel_blocks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/select.h"
#include "kernels/shapes.h"

namespace molt {

void CpuBackend::causal_conv(Matrix<const float> x, Matrix<const float> weight, const float* bias, Offsets offsets,
                             std::span<float* const> states, Matrix<float> y) const {
  shapes::check_causal_conv(x, weight, offsets, states, y);
  const Kernels& kernels = select_kernels();
  const std::int64_t cost = 20 + 2 * weight.rows;
  for_channel_blocks(x.cols, offsets, cost, [&](std::size_t s, std::int64_t begin, std::int64_t end) {
    kernels.causal_conv({
        .x = x.row(offsets[s]) + begin,
        .x_stride = x.stride,
        .weight = weight.data + begin,
        .weight_stride = weight.stride,
        .taps = weight.rows,
        .bias = bias == nullptr ? nullptr : bias + begin,
        .state = states[s] + begin,
        .state_stride = x.cols,
        .y = y.row(offsets[s]) + begin,
        .y_stride = y.stride,
        .rows = offsets[s + 1] - offsets[s],
        .channels = end - begin,
    });
  });
}

}  // namespace molt
