// The state space dual scan row by row, for decoding: bound by reading and writing the states once.
//
// A block takes kColumns channels of a head; its threads hold four columns of some states each in registers.
#include "kernels/cuda/ssd.h"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {
namespace {

constexpr int kColumns = 64;  // channels a block
constexpr int kEach = 4;      // channels a thread
constexpr int kLanes = kColumns / kEach;
constexpr int kParts = 16;  // of the states
constexpr int kThreads = kLanes * kParts;

template <class T>
struct Steps {
  const Ssd& ssd;
  StoredState<T> state;  // of the head
  int h, p, n0;          // first channel and first state of this thread
  bool fours;            // the state can be moved four channels at a time

  __device__ bool there(int i) const { return p + i < ssd.channels; }

  __device__ void load(int n, float (&v)[kEach]) const {
    if constexpr (sizeof(T) == 4) {
      if (fours) {
        const float4 four = *reinterpret_cast<const float4*>(state.data + n * ssd.channels + p);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] = there(i) ? state.get(n * ssd.channels + p + i) : 0.0F;
  }

  __device__ void store(int n, const float (&v)[kEach]) const {
    if constexpr (sizeof(T) == 4) {
      if (fours) {
        *reinterpret_cast<float4*>(state.data + n * ssd.channels + p) = {v[0], v[1], v[2], v[3]};
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!there(i)) continue;
      state.set(n * ssd.channels + p + i, static_cast<std::uint32_t>(h * ssd.channels + p + i),
                static_cast<std::uint32_t>(n), v[i]);
    }
  }
};

/// kStates: states a thread at the most. Thread (part, lane) holds states part, part + kParts, ... of its channels.
template <int kStates, class T>
__global__ void __launch_bounds__(kThreads)
    step_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Ssd ssd, int most_rows) {
  __shared__ float room[kParts][kColumns];
  begin();
  const int s = static_cast<int>(blockIdx.z);
  const int length = table.length(s);
  if (length == 0 || length > most_rows) return;
  const int lane = static_cast<int>(threadIdx.x) % kLanes, part = static_cast<int>(threadIdx.x) / kLanes;
  const int h = static_cast<int>(blockIdx.y);
  const int p = static_cast<int>(blockIdx.x) * kColumns + lane * kEach;
  T* const state = static_cast<T*>(table.states[s]) + ssd.state_offset(h);
  const bool fours = ssd.channels % kEach == 0 && p < ssd.channels && is_aligned(state);
  const Steps<T> steps{ssd, {state, table.key(s)}, h, p, part, fours};
  const bool mine = p < ssd.channels;
  float S[kStates][kEach] = {};
#pragma unroll
  for (int i = 0; i < kStates; ++i) {
    if (mine && part + i * kParts < ssd.states) steps.load(part + i * kParts, S[i]);
  }
  const int g = ssd.group_column(h);
  const int column = h * ssd.channels + p;
  for (int t = table.offsets[s]; t < table.offsets[s + 1]; ++t) {
    const float dt = ssd.dt.row(t)[h];
    const float m = ssd.multiplicity == nullptr ? 1.0F : ssd.multiplicity[t];
    const float decay = power_of_2(dt * m * (ssd.A[h] * kLog2e));
    const float* const B = ssd.B.row(t) + g;
    const float* const C = ssd.C.row(t) + g;
    float input[kEach], sums[kEach] = {};
#pragma unroll
    for (int i = 0; i < kEach; ++i) input[i] = steps.there(i) ? dt * ssd.x.row(t)[column + i] : 0.0F;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const int n = part + i * kParts;
      if (n >= ssd.states) break;
      const float b = B[n], c = C[n];
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        S[i][k] = decay * S[i][k] + b * input[k];
        sums[k] += c * S[i][k];
      }
    }
    if (ssd.wanted != nullptr && ssd.wanted[t] == 0) continue;  // the same for all threads
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kEach; ++k) room[part][lane * kEach + k] = sums[k];
    __syncthreads();
    const int p_out = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kColumns && p_out < ssd.channels) {
      float sum = 0;
#pragma unroll
      for (int k = 0; k < kParts; ++k) sum += room[k][threadIdx.x];
      const int out = h * ssd.channels + p_out;
      const float skip = ssd.D == nullptr ? 0.0F : ssd.D[out];
      ssd.y.row(t)[out] = sum + skip * ssd.x.row(t)[out];
    }
  }
#pragma unroll
  for (int i = 0; i < kStates; ++i) {
    if (mine && part + i * kParts < ssd.states) steps.store(part + i * kParts, S[i]);
  }
}

template <int kStates>
void launch(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int most_rows) {
  const dim3 grid(blocks_for(ssd.channels, kColumns), static_cast<unsigned>(ssd.heads),
                  static_cast<unsigned>(table.count));
  const auto kernel = rounded ? step_kernel<kStates, __nv_bfloat16> : step_kernel<kStates, float>;
  launch_early(context, "ssd, row by row", kernel, grid, kThreads, 0, table, ssd, most_rows);
}

}  // namespace

bool can_step(int states) {
  return states <= 16 * kParts;
}

void ssd_steps(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int most_rows) {
  if (ssd.states <= 4 * kParts) return launch<4>(context, table, ssd, rounded, most_rows);
  if (ssd.states <= 8 * kParts) return launch<8>(context, table, ssd, rounded, most_rows);
  launch<16>(context, table, ssd, rounded, most_rows);
}

}  // namespace molt::cuda
