// Products of up to 16 rows with weights in bfloat16, as in decoding a batch: bound by reading the weights once.
//
// A block takes 16 outputs, its warps a part of the inputs each. Both operands of a tile's product come from memory as
// they lie, 16 bytes a lane: lane (g, q) holds inputs 8q .. 8q + 7 of row g, of 32; what the hardware calls inputs 2q,
// 2q + 1, 2q + 8 and 2q + 9 of a step are the first four of these, those of the next step the last four. Which is which
// does not matter to a sum.
#include "kernels/cuda/matmul_tiles.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/matmul_stream.h"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = kTileRows;
constexpr int kOutputs = 16;
constexpr int kStep = 32;  // inputs that a warp takes at a time
constexpr int kAhead = 5;  // steps whose weights are on their way

/// x as bfloat16 [16, stride], zeros behind its rows and columns.
__global__ void __launch_bounds__(kThreads)
    round_kernel(Rows<const float> x, int rows, int in, __nv_bfloat16* to, int stride) {
  begin();
  const int k = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int t = static_cast<int>(blockIdx.y);
  if (k >= stride) return;
  to[t * stride + k] = __float2bfloat16_rn(t < rows && k < in ? x.row(t)[k] : 0.0F);
}

/// x [16, stride]; what lies behind its `rows` rows does not matter.
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const __nv_bfloat16* x, const __nv_bfloat16* w, int stride, int rows,
                const __grid_constant__ StepOutput out, const __grid_constant__ StateShift shift) {
  const int outputs = out.outputs;
  __shared__ float parts[kWarps][kRows][kOutputs + 1];
  __shared__ float scales[kRows];
  const Lane lane;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int n0 = static_cast<int>(blockIdx.x) * kOutputs;
  const int steps = (stride + kStep - 1) / kStep;
  // Weights of outputs g and g + 8, 16 bytes at input `k`.
  const auto fetch = [&](const __nv_bfloat16* from, int row, int limit, int step) {
    const int k = step * kStep + 8 * lane.q;
    if (step >= steps || k >= stride || row >= limit) return uint4{0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(from + static_cast<std::int64_t>(row) * stride + k);
  };
  uint4 ahead[kAhead][2];
  let_next_start();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      ahead[i][half] = fetch(w, n0 + lane.g + 8 * half, outputs, warp + i * kWarps);
    }
  }
  wait_for_previous();
  shift.run(threadIdx.x, blockDim.x);
  if (out.squares != nullptr) {
    for (int t = warp; t < rows; t += kWarps) {
      const float scale = out.scale(t);
      if (threadIdx.x % 32 == 0) scales[t] = scale;
    }
  }
  float sums[2][4] = {};
  for (int first = warp; first < steps; first += kAhead * kWarps) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int step = first + i * kWarps;
      const uint4 top = fetch(x, lane.g, kRows, step), bottom = fetch(x, lane.g + 8, kRows, step);
      const uint4 now[2] = {ahead[i][0], ahead[i][1]};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ahead[i][half] = fetch(w, n0 + lane.g + 8 * half, outputs, step + kAhead * kWarps);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Narrow::add_product(sums[half], {{top.x, bottom.x, top.y, bottom.y}}, {{now[half].x, now[half].y}});
        Narrow::add_product(sums[half], {{top.z, bottom.z, top.w, bottom.w}}, {{now[half].z, now[half].w}});
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int e = 0; e < 4; ++e) parts[warp][lane.g + e / 2 * 8][half * 8 + 2 * lane.q + e % 2] = sums[half][e];
  }
  __syncthreads();
  const int t = static_cast<int>(threadIdx.x) / kOutputs, n = static_cast<int>(threadIdx.x) % kOutputs;
  if (t >= rows || n0 + n >= outputs) return;
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kWarps; ++k) sum += parts[k][t][n];
  out.put(t, n0 + n, sum, out.squares != nullptr ? scales[t] : 1.0F);
}
static_assert(kThreads == kRows * kOutputs);

}  // namespace

bool are_tile(Matrix<const float> x, const PackedRows& w) {
  return x.rows <= kRows && w.stored() == DType::bf16;
}

void tile_matmul(Matrix<const float> x, const PackedRows& w, const float* bias, Matrix<float> y, std::int64_t first) {
  Context& context = Context::get();
  const int stride = static_cast<int>(w.stride());
  auto* const rounded = reinterpret_cast<__nv_bfloat16*>(context.scratch(kRows * w.stride() * 2));
  const int rows = static_cast<int>(x.rows);
  launch_early(context, "rounding the input of a product", round_kernel,
               dim3(blocks_for(stride, kThreads), static_cast<unsigned>(kRows)), kThreads, 0, x, rows,
               static_cast<int>(x.cols), rounded, stride);
  const StepOutput out{.bias = bias, .y = y, .outputs = static_cast<int>(y.cols)};
  if (can_stream(context, x.rows, w)) return stream_product(context, rounded, x.rows, w, first, out, {});
  launch_early(context, "matmul of a tile of rows", tile_kernel, blocks_for(y.cols, kOutputs), kThreads, 0, rounded,
               reinterpret_cast<const __nv_bfloat16*>(w.row(first)), stride, rows, out, StateShift{});
}

void tile_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                  const StepOutput& out, const StateShift& shift) {
  launch_early(context, "matmul of a tile of rows", tile_kernel, blocks_for(out.outputs, kOutputs), kThreads, 0, x,
               reinterpret_cast<const __nv_bfloat16*>(w.row(0)), static_cast<int>(w.stride()), static_cast<int>(rows),
               out, shift);
}

}  // namespace molt::cuda
