// The selective scan of Mamba-1. Of many rows that are aligned it is row_scan.h's; here of others: a channel is some
// neighbouring lanes, each with up to kEach of its states in registers, which goes through the rows of its sequence.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/row_scan.h"
#include "kernels/cuda/sequences.cuh"
#include "kernels/cuda/stored_state.cuh"
#include "kernels/shapes.h"

namespace molt {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kEach = 4;   // states a lane
constexpr int kAhead = 4;  // rows that are fetched together, while those before them are worked on
constexpr float kLog2e = 1.4426950408889634F;

struct Scan {
  Rows<const float> x, dt, A, B, C;
  const float* D;
  const float* multiplicity;   // on the device, or null
  const std::uint8_t* wanted;  // likewise
  Rows<float> y;
  int channels, states;
  bool fours;  // rows of B and C can be read four states at a time

  /// Those of a lane, from n on; zeros behind the last.
  __device__ void states_of(const float* row, int n, float (&v)[kEach]) const {
    if (fours && n < states) {
      const float4 four = *reinterpret_cast<const float4*>(row + n);
      v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
      return;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] = n + i < states ? row[n + i] : 0.0F;
  }
};
static_assert(kEach == 4);

/// What a lane needs of kAhead rows.
struct Fetched {
  float x[kAhead], dt[kAhead], m[kAhead], b[kAhead][kEach], c[kAhead][kEach];

  /// Rows from `begin` on; for those from `last` on the last one.
  __device__ void load(const Scan& scan, int begin, int last, int d, int n0) {
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int t = min(begin + k, last - 1);
      x[k] = scan.x.row(t)[d];
      dt[k] = scan.dt.row(t)[d];
      m[k] = scan.multiplicity == nullptr ? 1.0F : scan.multiplicity[t];
      scan.states_of(scan.B.row(t), n0, b[k]);
      scan.states_of(scan.C.row(t), n0, c[k]);
    }
  }
};

/// kLanes lanes a channel: kLanes * kEach >= states.
template <int kLanes, class T>
__global__ void __launch_bounds__(kThreads) scan_kernel(const __grid_constant__ SequenceTable table, Scan scan) {
  begin();
  const int s = static_cast<int>(blockIdx.y);
  const int d_wanted = (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) / kLanes;
  const bool mine = d_wanted < scan.channels;
  const int d = mine ? d_wanted : scan.channels - 1;  // the last lanes keep up, and write nothing
  const int n0 = static_cast<int>(threadIdx.x) % kLanes * kEach;
  const int first = table.offsets[s], last = table.offsets[s + 1];
  if (first == last) return;
  const StoredState<T> state{static_cast<T*>(table.states[s]), table.key(s)};
  float H[kEach], a[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const bool there = n0 + i < scan.states;
    a[i] = there ? scan.A.row(n0 + i)[d] * kLog2e : 0.0F;
    H[i] = there ? state.get(static_cast<std::int64_t>(n0 + i) * scan.channels + d) : 0.0F;
  }
  const float skip = scan.D == nullptr ? 0.0F : scan.D[d];
  Fetched next;
  next.load(scan, first, last, d, n0);
  for (int begin = first; begin < last; begin += kAhead) {
    const Fetched now = next;
    if (begin + kAhead < last) next.load(scan, begin + kAhead, last, d, n0);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (begin + k >= last) break;
      const float step = now.dt[k] * now.m[k];
      const float input = now.dt[k] * now.x[k];
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        H[i] = power_of_2(step * a[i]) * H[i] + input * now.b[k][i];
        sum += now.c[k][i] * H[i];
      }
#pragma unroll
      for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
      const int t = begin + k;
      if (n0 == 0 && mine && (scan.wanted == nullptr || scan.wanted[t] != 0)) scan.y.row(t)[d] = sum + skip * now.x[k];
    }
  }
  if (!mine) return;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (n0 + i < scan.states) {
      state.set(static_cast<std::int64_t>(n0 + i) * scan.channels + d, static_cast<std::uint32_t>(d),
                static_cast<std::uint32_t>(n0 + i), H[i]);
    }
  }
}

template <int kLanes>
void launch(const Context& context, const SequenceTable& table, const Scan& scan, bool rounded) {
  const dim3 grid(blocks_for(std::int64_t{scan.channels} * kLanes, kThreads), static_cast<unsigned>(table.count));
  const auto kernel = rounded ? scan_kernel<kLanes, __nv_bfloat16> : scan_kernel<kLanes, float>;
  launch_early(context, "selective_scan", kernel, grid, kThreads, 0, table, scan);
}

void launch(const Context& context, int lanes, const SequenceTable& table, const Scan& scan, bool rounded) {
  switch (lanes) {
    case 1: return launch<1>(context, table, scan, rounded);
    case 2: return launch<2>(context, table, scan, rounded);
    case 4: return launch<4>(context, table, scan, rounded);
    case 8: return launch<8>(context, table, scan, rounded);
    case 16: return launch<16>(context, table, scan, rounded);
    default: return launch<32>(context, table, scan, rounded);
  }
}

/// Rows a sequence, on average, from which on row_scan() is the faster.
constexpr std::int64_t kLeastRows = 16;

}  // namespace
}  // namespace cuda

void CudaBackend::selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                 Matrix<const float> B, Matrix<const float> C, const float* D, const ScanRows& rows,
                                 Matrix<float> y) const {
  const shapes::ScanShape shape = shapes::check_selective_scan(x, dt, A, B, C, rows, y);
  cuda::Context::get().leave_scan(nullptr);
  constexpr std::int64_t kMostStates = 32 * cuda::kEach;
  if (shape.states > kMostStates) return StagedBackend::selective_scan(x, dt, A, B, C, D, rows, y);
  if (shape.channels == 0 || x.rows == 0) return;
  cuda::Context& context = cuda::Context::get();
  const auto hand_over = [&](auto* numbers) {
    return numbers == nullptr ? nullptr : context.hand_over(numbers, x.rows);
  };
  const bool aligned = cuda::in_fours(x) && cuda::in_fours(dt) && cuda::in_fours(y);
  const bool are_many = x.rows >= cuda::kLeastRows * static_cast<std::int64_t>(rows.sequences());
  if (aligned && are_many && shape.states <= cuda::kMostScanStates) {
    return cuda::row_scan<float>(context,
                                 {.x = x,
                                  .dt = dt,
                                  .z = {nullptr, 0},
                                  .B = B,
                                  .C = C,
                                  .dt_bias = nullptr,
                                  .A = A,
                                  .D = D,
                                  .multiplicity = hand_over(rows.multiplicity),
                                  .y = y,
                                  .channels = static_cast<int>(shape.channels),
                                  .states = static_cast<int>(shape.states)},
                                 rows);
  }
  const cuda::Scan scan{x,
                        dt,
                        A,
                        B,
                        C,
                        D,
                        hand_over(rows.multiplicity),
                        hand_over(rows.wanted),
                        y,
                        static_cast<int>(shape.channels),
                        static_cast<int>(shape.states),
                        cuda::in_fours(B) && cuda::in_fours(C)};
  int lanes = 1;
  while (lanes * cuda::kEach < shape.states) lanes *= 2;
  cuda::for_tables(rows, [&](const cuda::SequenceTable& table, int) {
    cuda::launch(context, lanes, table, scan, !rows.rounded.empty());
  });
}

}  // namespace molt
