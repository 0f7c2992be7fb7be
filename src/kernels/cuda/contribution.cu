// How much of a sequence's last state comes from each of its rows, in four launches: what decays behind each row, what
// each row wrote, the sums of that over each sequence, and each row's mean share.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sequences.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kLeast = -60;  // exponents

/// w[t, d] = the sum of dt * m over the rows behind t of its sequence.
__global__ void __launch_bounds__(kThreads) later_kernel(const __grid_constant__ SequenceTable table,
                                                         Rows<const float> dt, const float* m, int cols, float* w) {
  const int d = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (d >= cols) return;
  const int first = table.offsets[blockIdx.y];
  double later = 0;
#pragma unroll 8
  for (int t = table.offsets[blockIdx.y + 1] - 1; t >= first; --t) {
    w[static_cast<std::int64_t>(t) * cols + d] = static_cast<float>(later);
    later += static_cast<double>(dt.row(t)[d]) * (m == nullptr ? 1.0 : static_cast<double>(m[t]));
  }
}

/// Of Mamba-1: w[t, d] = dt |x| |B exp(A later)|, in place of `later`.
__global__ void __launch_bounds__(kThreads)
    selective_sizes_kernel(Rows<const float> x, Rows<const float> dt, Rows<const float> A, Rows<const float> B,
                           int states, int cols, float* w) {
  const int d = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  if (d >= cols) return;
  const std::int64_t t = blockIdx.x;
  const float later = w[t * cols + d];
  float squares = 0;
  for (int n = 0; n < states; ++n) {
    const float left = B.row(t)[n] * expf(fmaxf(kLeast, A.row(n)[d] * later));
    squares += left * left;
  }
  w[t * cols + d] = dt.row(t)[d] * fabsf(x.row(t)[d]) * sqrtf(squares);
}

__device__ float warp_norm(const float* x, int n) {
  float squares = 0;
  for (int i = threadIdx.x % 32; i < n; i += 32) squares += x[i] * x[i];
  return sqrtf(warp_sum(squares));
}

/// Of Mamba-2: a warp a head, in place of `later`.
__global__ void __launch_bounds__(kThreads) ssd_sizes_kernel(Rows<const float> x, Rows<const float> dt, const float* A,
                                                             Rows<const float> B, shapes::SsdShape shape, float* w) {
  const int h = static_cast<int>(blockIdx.y) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const auto heads = static_cast<int>(shape.heads);
  if (h >= heads) return;
  const std::int64_t t = blockIdx.x;
  const std::int64_t group = h / (heads / shape.groups);
  const float size = warp_norm(x.row(t) + h * shape.channels, static_cast<int>(shape.channels)) *
                     warp_norm(B.row(t) + group * shape.states, static_cast<int>(shape.states));
  if (threadIdx.x % 32 == 0) {
    w[t * heads + h] = dt.row(t)[h] * size * expf(fmaxf(kLeast, A[h] * w[t * heads + h]));
  }
}

/// totals[s, d] = the sum of w over a sequence.
__global__ void __launch_bounds__(kThreads)
    totals_kernel(const __grid_constant__ SequenceTable table, const float* w, int cols, double* totals) {
  const int d = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (d >= cols) return;
  double sum = 0;
#pragma unroll 8
  for (int t = table.offsets[blockIdx.y]; t < table.offsets[blockIdx.y + 1]; ++t) {
    sum += static_cast<double>(w[static_cast<std::int64_t>(t) * cols + d]);
  }
  totals[static_cast<std::int64_t>(blockIdx.y) * cols + d] = sum;
}

__global__ void __launch_bounds__(kThreads) shares_kernel(const __grid_constant__ SequenceTable table, const float* w,
                                                          int cols, const double* totals, float* c) {
  __shared__ double room[32];
  const int s = static_cast<int>(blockIdx.y);
  if (static_cast<int>(blockIdx.x) >= table.length(s)) return;
  const std::int64_t t = table.offsets[s] + static_cast<int>(blockIdx.x);
  double sum = 0;
  for (int d = threadIdx.x; d < cols; d += kThreads) {
    const double total = totals[static_cast<std::int64_t>(s) * cols + d];
    if (total != 0) sum += static_cast<double>(w[t * cols + d]) / total;
  }
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) c[t] = static_cast<float>(sum / cols);
}

/// All of it; `sizes(w)` launches the second step.
template <class Sizes>
void contributions(Matrix<const float> dt, const float* m, Offsets offsets, float* c, Sizes sizes) {
  if (dt.rows == 0 || dt.cols == 0) return;
  Context& context = Context::get();
  const cudaStream_t stream = context.stream();
  const std::int64_t elements = dt.rows * dt.cols;
  const std::int64_t totals_room = SequenceTable::kMost * dt.cols;
  auto* const totals = reinterpret_cast<double*>(context.scratch(8 * totals_room + 4 * (elements + dt.rows)));
  auto* const w = reinterpret_cast<float*>(totals + totals_room);
  float* const there = w + elements;
  const float* const multiplicity = m == nullptr ? nullptr : context.hand_over(m, dt.rows);
  const int cols = static_cast<int>(dt.cols);
  const auto no_state = [](std::size_t, SequenceTable&, int) {};
  const auto grid = [&](const SequenceTable& table) {
    return dim3(blocks_for(dt.cols, kThreads), static_cast<unsigned>(table.count));
  };
  for_tables(offsets, no_state, [&](const SequenceTable& table, int) {
    later_kernel<<<grid(table), kThreads, 0, stream>>>(table, dt, multiplicity, cols, w);
  });
  sizes(w);
  for_tables(offsets, no_state, [&](const SequenceTable& table, int longest) {
    totals_kernel<<<grid(table), kThreads, 0, stream>>>(table, w, cols, totals);
    const dim3 rows(static_cast<unsigned>(longest), static_cast<unsigned>(table.count));
    shares_kernel<<<rows, kThreads, 0, stream>>>(table, w, cols, totals, there);
  });
  check_launch("contribution");
  context.bring(there, c, dt.rows * 4);
}

}  // namespace
}  // namespace cuda

void CudaBackend::selective_scan_contribution(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                              Matrix<const float> B, const float* m, Offsets offsets, float* c) const {
  const std::int64_t N = shapes::check_selective_scan(x, dt, A, B).states;
  shapes::check_offsets(offsets, x.rows);
  cuda::contributions(dt, m, offsets, c, [&](float* w) {
    const dim3 grid(static_cast<unsigned>(x.rows), cuda::blocks_for(x.cols, cuda::kThreads));
    cuda::selective_sizes_kernel<<<grid, cuda::kThreads, 0, cuda::Context::get().stream()>>>(
        x, dt, A, B, static_cast<int>(N), static_cast<int>(x.cols), w);
  });
}

void CudaBackend::ssd_contribution(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                                   Matrix<const float> B, std::int64_t groups, const float* m, Offsets offsets,
                                   float* c) const {
  const shapes::SsdShape shape = shapes::check_ssd(x, dt, A, B, groups);
  shapes::check_offsets(offsets, x.rows);
  cuda::contributions(dt, m, offsets, c, [&](float* w) {
    const dim3 grid(static_cast<unsigned>(x.rows), cuda::blocks_for(shape.heads, cuda::kThreads / 32));
    cuda::ssd_sizes_kernel<<<grid, cuda::kThreads, 0, cuda::Context::get().stream()>>>(x, dt, A.data(), B, shape, w);
  });
}

}  // namespace molt
