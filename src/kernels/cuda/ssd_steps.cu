// The state space dual scan row by row, for decoding: bound by reading and writing the states once.
//
// A block takes kColumns channels of a head; its threads hold a column of states each, or part of one, in registers.
#include "kernels/cuda/ssd.h"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {
namespace {

constexpr int kColumns = 32;             // channels a block
constexpr int kParts = 8;                // of a column
constexpr int kThreads = kColumns * kParts;
constexpr float kLog2e = 1.4426950408889634F;

/// kEach: states a thread at the most. Thread (part, p) holds states part, part + kParts, ... of channel p.
template <int kEach, class T>
__global__ void __launch_bounds__(kThreads)
    step_kernel(const __grid_constant__ SequenceTable table, Ssd ssd, int most_rows) {
  __shared__ float room[kParts][kColumns];
  const int s = static_cast<int>(blockIdx.z);
  const int length = table.length(s);
  if (length == 0 || length > most_rows) return;
  const int h = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % kColumns, part = static_cast<int>(threadIdx.x) / kColumns;
  const int p = static_cast<int>(blockIdx.x) * kColumns + lane;
  const bool mine = p < ssd.channels;
  const int column = h * ssd.channels + p;
  const StoredState<T> state{static_cast<T*>(table.states[s]) + ssd.state_offset(h), table.keys[s]};
  const int g = ssd.group_column(h);
  float S[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int n = part + i * kParts;
    S[i] = mine && n < ssd.states ? state.get(n * ssd.channels + p) : 0.0F;
  }
  const float skip = ssd.D == nullptr || !mine ? 0.0F : ssd.D[column];
  for (int t = table.offsets[s]; t < table.offsets[s + 1]; ++t) {
    const float dt = ssd.dt.row(t)[h];
    const float m = ssd.multiplicity == nullptr ? 1.0F : ssd.multiplicity[t];
    const float decay = exp2f(dt * m * (ssd.A[h] * kLog2e));
    const float x = mine ? ssd.x.row(t)[column] : 0.0F;
    const bool wanted = ssd.wanted == nullptr || ssd.wanted[t] != 0;
    const float input = dt * x;
    const float* const B = ssd.B.row(t) + g;
    const float* const C = ssd.C.row(t) + g;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int n = part + i * kParts;
      if (n >= ssd.states) break;
      S[i] = decay * S[i] + B[n] * input;
      sum += C[n] * S[i];
    }
    if (!wanted) continue;  // the same for all threads
    __syncthreads();
    room[part][lane] = sum;
    __syncthreads();
    if (part == 0 && mine) {
      for (int k = 1; k < kParts; ++k) sum += room[k][lane];
      ssd.y.row(t)[column] = sum + skip * x;
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int n = part + i * kParts;
    if (mine && n < ssd.states) {
      state.set(n * ssd.channels + p, static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(n), S[i]);
    }
  }
}

template <int kEach>
void launch(const SequenceTable& table, const Ssd& ssd, bool rounded, int most_rows, cudaStream_t stream) {
  const dim3 grid(blocks_for(ssd.channels, kColumns), static_cast<unsigned>(ssd.heads),
                  static_cast<unsigned>(table.count));
  const auto kernel = rounded ? step_kernel<kEach, __nv_bfloat16> : step_kernel<kEach, float>;
  kernel<<<grid, kThreads, 0, stream>>>(table, ssd, most_rows);
  check_launch("ssd, row by row");
}

}  // namespace

bool can_step(int states) {
  return states <= 32 * kParts;
}

void ssd_steps(const SequenceTable& table, const Ssd& ssd, bool rounded, int most_rows, cudaStream_t stream) {
  if (ssd.states <= 8 * kParts) return launch<8>(table, ssd, rounded, most_rows, stream);
  if (ssd.states <= 16 * kParts) return launch<16>(table, ssd, rounded, most_rows, stream);
  launch<32>(table, ssd, rounded, most_rows, stream);
}

}  // namespace molt::cuda
