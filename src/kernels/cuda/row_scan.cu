// Two lanes are two channels, each with half of their states in registers. A block goes through a sequence's rows in
// tiles, which asynchronous copies bring into shared memory a tile ahead, and which its threads share B and C of; y
// takes z's place there and leaves in whole lines.
//
// What bounds it are exponentials, 16 a channel and row on a unit that takes four a cycle of a scheduler, and the
// instructions around them, which are nearly as many cycles. (Polynomials for some of the 16: tried, no faster.)
//
// Where channels times sequences do not fill the device, rows are cut into chunks: a first kernel takes the first chunk
// as it is, and of the others (but the last) only their ends, from states of zero, and what they decay by; in a second
// each chunk but the first gathers the state it begins with from the ends before it, and goes through its rows again.
#include "kernels/cuda/row_scan.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/sequences.cuh"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {
namespace {

using Narrow = __nv_bfloat16;

constexpr int kThreads = 128;
// Of a multiprocessor. With five all of 16 sequences of 5120 channels are at work at once, but with too few registers
// to be as fast: those that are left over in the end go alone.
constexpr int kBlocks = 4;
constexpr int kStates = static_cast<int>(kMostScanStates);
constexpr int kOwn = kStates / 2;  // of a channel, that a thread keeps
constexpr int kUnits = 2;          // of 16 bytes, of a matrix's tile, a thread
constexpr float kLn2 = 0.6931471805599453F;

/// In bfloat16 softplus and the gate are part of it.
template <class E>
constexpr bool kIsGated = std::is_same_v<E, Narrow>;

template <class E>
struct Chunked {
  RowScan<E> scan;
  int chunk_rows;
  float* ends;    // [kStates, channels] each, see ScanCut; or null
  float* decays;  // [channels] each: the sums of their steps
  bool rounded;   // the states
};

/// What a chunk leaves to those behind it.
struct ChunkEnd {
  float *state, *steps;

  template <class E>
  __device__ ChunkEnd(const Chunked<E>& chunked, int sequence_begin, int chunk) {
    const std::int64_t place = sequence_begin / chunked.chunk_rows + chunk, channels = chunked.scan.channels;
    state = chunked.ends + place * kStates * channels;
    steps = chunked.decays + place * channels;
  }
};

template <class E>
struct Tile {
  static constexpr int kUnit = 16 / static_cast<int>(sizeof(E));  // elements
  static constexpr int kRows = kUnits * kUnit;
  static constexpr int kPairs = kRows * 2 * kStates / kThreads;  // values of B and C, a thread

  // z: y, too
  alignas(16) E x[kRows][kThreads], dt[kRows][kThreads], z[kRows][kThreads];
  float bc[kRows][2 * kStates];
  float multiplicity[kRows];
};
static_assert(Tile<float>::kRows * kThreads == kUnits * kThreads * Tile<float>::kUnit);

__device__ inline float widen(float v) {
  return v;
}
__device__ inline float widen(Narrow v) {
  return __bfloat162float(v);
}
__device__ inline void put(float& to, float v) {
  to = v;
}
__device__ inline void put(Narrow& to, float v) {
  to = __float2bfloat16_rn(v);
}

/// softplus(v) to 1e-5 of it.
__device__ inline float quick_softplus(float v) {
  constexpr float kSmall = 1.0F / 64;
  const float e = power_of_2(v * kLog2e);
  float log2;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2) : "f"(1.0F + e));
  const float small = e - e * e * (0.5F - e * (1.0F / 3));
  return v > 20.0F ? v : e < kSmall ? small : log2 * kLn2;
}

/// What a thread has of two channels, its own and that of the lane beside it, on their way through a sequence's rows:
/// half of their states, for so the two lanes read B and C half as often.
struct Channels {
  float H[2][kOwn], a[2][kOwn];
  float bias, skip;  // of its own, as all that follows
  float steps = 0;   // their sum

  /// The first of its states.
  static __device__ int first() { return static_cast<int>(threadIdx.x) % 2 * kOwn; }
};

__device__ inline float of_other(float v) {
  return __shfl_xor_sync(kAllLanes, v, 1);
}

/// The rows of a tile in shared memory. kOutputs: with y, which takes z's place.
template <class E, bool kOutputs, bool kWeighted>
__device__ inline void run(Channels& channels, Tile<E>& tile, int rows) {
  const int d = static_cast<int>(threadIdx.x);
#pragma unroll 8
  for (int r = 0; r < rows; ++r) {
    float dt = widen(tile.dt[r][d]);
    if constexpr (kIsGated<E>) dt = quick_softplus(dt + channels.bias);
    const float x = widen(tile.x[r][d]);
    const float own_step = kWeighted ? dt * tile.multiplicity[r] : dt, own_input = dt * x;
    const float step[2] = {own_step, of_other(own_step)}, input[2] = {own_input, of_other(own_input)};
    const auto* const b = reinterpret_cast<const float4*>(tile.bc[r] + Channels::first());
    const auto* const c = b + kStates / 4;
    float sums[2][2] = {{channels.skip * x}};
#pragma unroll
    for (int i = 0; i < kOwn; i += 4) {
      const float4 four_b = b[i / 4];
      const float B[4] = {four_b.x, four_b.y, four_b.z, four_b.w};
      float4 four_c{};
      if constexpr (kOutputs) four_c = c[i / 4];
      const float C[4] = {four_c.x, four_c.y, four_c.z, four_c.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int which = 0; which < 2; ++which) {
          float& H = channels.H[which][i + k];
          H = power_of_2(step[which] * channels.a[which][i + k]) * H + input[which] * B[k];
          if constexpr (kOutputs) sums[which][k % 2] += C[k] * H;
        }
      }
    }
    if constexpr (kOutputs) {
      float y = sums[0][0] + sums[0][1] + of_other(sums[1][0] + sums[1][1]);
      if constexpr (kIsGated<E>) y *= silu(widen(tile.z[r][d]));
      put(tile.z[r][d], y);
    } else {
      channels.steps += own_step;
    }
  }
}

/// Brings a block's tiles into shared memory and y out of it.
template <class E, bool kOutputs, bool kWeighted>
class Tiles {
 public:
  using T = Tile<E>;

  __device__ Tiles(const RowScan<E>& scan, int first_channel) : scan_(scan), first_channel_(first_channel) {}

  /// Starts to bring the rows of a tile from `begin` on, zeros from `end` on.
  __device__ void fetch(T& tile, int begin, int end) {
    each_unit([&](int row, int column, bool there) {
      there = there && begin + row < end;
      const int t = there ? begin + row : begin, d = there ? first_channel_ + column : 0;
      copy_unit(&tile.x[row][column], scan_.x.row(t) + d, there);
      copy_unit(&tile.dt[row][column], scan_.dt.row(t) + d, there);
      if constexpr (kOutputs && kIsGated<E>) copy_unit(&tile.z[row][column], scan_.z.row(t) + d, there);
    });
#pragma unroll
    for (int i = 0; i < T::kPairs; ++i) {
      const int place = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = place / (2 * kStates), n = place % kStates;
      const bool is_b = place % (2 * kStates) < kStates;
      bc_[i] = begin + row < end && n < scan_.states ? (is_b ? scan_.B : scan_.C).row(begin + row)[n] : E(0.0F);
    }
    if constexpr (kWeighted) {
      const int row = static_cast<int>(threadIdx.x);
      if (row < T::kRows && begin + row < end) multiplicity_ = scan_.multiplicity[begin + row];
    }
  }

  /// What fetch() brought into registers.
  __device__ void put(T& tile) const {
#pragma unroll
    for (int i = 0; i < T::kPairs; ++i) {
      const int place = static_cast<int>(threadIdx.x) + i * kThreads;
      tile.bc[place / (2 * kStates)][place % (2 * kStates)] = widen(bc_[i]);
    }
    if constexpr (kWeighted) {
      if (threadIdx.x < T::kRows) tile.multiplicity[threadIdx.x] = multiplicity_;
    }
  }

  /// y of a tile. A thread takes the units that it will fetch z's next into.
  __device__ void leave(const T& tile, int begin, int end) const {
    each_unit([&](int row, int column, bool there) {
      if (!there || begin + row >= end) return;
      E* const to = scan_.y.row(begin + row) + first_channel_ + column;
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&tile.z[row][column]);
    });
  }

 private:
  /// body(row, column, whether the column is one of the matrix).
  template <class Body>
  __device__ void each_unit(Body body) const {
    constexpr int kAcross = kThreads / T::kUnit;
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int unit = static_cast<int>(threadIdx.x) + i * kThreads;
      const int column = unit % kAcross * T::kUnit;
      body(unit / kAcross, column, first_channel_ + column < scan_.channels);
    }
  }

  const RowScan<E>& scan_;
  int first_channel_;
  E bc_[T::kPairs];
  float multiplicity_ = 0;
};

/// The rows [first, last) of a sequence, first < last.
template <class E, bool kOutputs, bool kWeighted>
__device__ inline void go_through(const RowScan<E>& scan, int first, int last, Channels& channels, Tile<E> (&room)[2]) {
  constexpr int kTile = Tile<E>::kRows;
  Tiles<E, kOutputs, kWeighted> tiles(scan, static_cast<int>(blockIdx.x) * kThreads);
  tiles.fetch(room[0], first, last);
  tiles.put(room[0]);
  int now = 0;
  for (int begin = first; begin < last; begin += kTile, now ^= 1) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and nobody works on the one before
    Tile<E>& other = room[now ^ 1];
    if constexpr (kOutputs) {
      if (begin > first) tiles.leave(other, begin - kTile, last);
    }
    const bool more = begin + kTile < last;
    if (more) tiles.fetch(other, begin + kTile, last);
    run<E, kOutputs, kWeighted>(channels, room[now], min(kTile, last - begin));
    if (more) {
      tiles.put(other);
    } else if constexpr (kOutputs) {
      __syncthreads();
      tiles.leave(room[now], begin, last);
    }
  }
}

/// body(the state in registers, its number, its channel) for a thread's states. `d`: its own channel; channels come in
/// pairs.
template <class Body>
__device__ inline void for_states(float (&H)[2][kOwn], int d, Body body) {
#pragma unroll
  for (int which = 0; which < 2; ++which) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) body(H[which][i], Channels::first() + i, d ^ which);
  }
}

template <class T, class E>
__device__ inline void load_state(const Chunked<E>& chunked, const SequenceTable& table, int s, int d,
                                  Channels& channels) {
  const StoredState<T> state{static_cast<T*>(table.states[s]), table.key(s)};
  for_states(channels.H, d, [&](float& H, int n, int of) {
    if (n < chunked.scan.states) H = state.get(static_cast<std::int64_t>(n) * chunked.scan.channels + of);
  });
}

template <class T, class E>
__device__ inline void store_state(const Chunked<E>& chunked, const SequenceTable& table, int s, int d,
                                   Channels& channels) {
  const StoredState<T> state{static_cast<T*>(table.states[s]), table.key(s)};
  for_states(channels.H, d, [&](float H, int n, int of) {
    if (n >= chunked.scan.states) return;
    state.set(static_cast<std::int64_t>(n) * chunked.scan.channels + of, static_cast<std::uint32_t>(of),
              static_cast<std::uint32_t>(n), H);
  });
}

/// The state that a chunk begins with.
template <class E>
__device__ inline void gather(const Chunked<E>& chunked, int sequence_begin, int chunk, int d, Channels& channels) {
  constexpr float kNothingIsLeft = -200;  // also where a sum of steps is infinite
  for (int before = 0; before < chunk; ++before) {
    const ChunkEnd end(chunked, sequence_begin, before);
    const float steps[2] = {end.steps[d], end.steps[d ^ 1]};
#pragma unroll
    for (int which = 0; which < 2; ++which) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const std::int64_t n = Channels::first() + i;
        const float decay = power_of_2(fmaxf(steps[which] * channels.a[which][i], kNothingIsLeft));
        channels.H[which][i] = decay * channels.H[which][i] + end.state[n * chunked.scan.channels + (d ^ which)];
      }
    }
  }
}

template <class E>
__device__ inline void leave_end(const Chunked<E>& chunked, int sequence_begin, int chunk, int d, Channels& channels) {
  const ChunkEnd end(chunked, sequence_begin, chunk);
  end.steps[d] = channels.steps;
  for_states(channels.H, d,
             [&](float H, int n, int of) { end.state[static_cast<std::int64_t>(n) * chunked.scan.channels + of] = H; });
}

/// A block takes kThreads channels of a chunk of a sequence. kAgain: the second time, all chunks but the first.
template <class E, bool kAgain, bool kWeighted>
__global__ void __launch_bounds__(kThreads, kBlocks)
    scan_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Chunked<E> chunked) {
  __shared__ Tile<E> room[2];
  begin();
  const int s = static_cast<int>(blockIdx.y), chunk = static_cast<int>(blockIdx.z) + (kAgain ? 1 : 0);
  const std::int64_t ahead = static_cast<std::int64_t>(chunk) * chunked.chunk_rows;
  if (ahead >= table.length(s)) return;
  const int first = table.offsets[s] + static_cast<int>(ahead);
  const int last = min(first + chunked.chunk_rows, table.offsets[s + 1]);
  const bool is_last = last == table.offsets[s + 1];
  if (!kAgain && chunk > 0 && is_last) return;  // whose end nobody asks for
  const int d_wanted = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const bool mine = d_wanted < chunked.scan.channels;
  const int d = mine ? d_wanted : chunked.scan.channels - 1;  // the last threads keep up, and write nothing

  Channels channels{};
  for_states(channels.a, d, [&](float& a, int n, int of) {
    if (n < chunked.scan.states) a = chunked.scan.A.row(n)[of] * kLog2e;
  });
  channels.bias = kIsGated<E> ? chunked.scan.dt_bias[d] : 0.0F;
  channels.skip = chunked.scan.D == nullptr ? 0.0F : chunked.scan.D[d];
  if (kAgain) {
    gather(chunked, table.offsets[s], chunk, d, channels);
  } else if (chunk == 0) {
    chunked.rounded ? load_state<Narrow>(chunked, table, s, d, channels)
                    : load_state<float>(chunked, table, s, d, channels);
  }
  if (kAgain || chunk == 0) {
    go_through<E, true, kWeighted>(chunked.scan, first, last, channels, room);
  } else {
    go_through<E, false, kWeighted>(chunked.scan, first, last, channels, room);
  }
  if (!mine) return;
  if (is_last) {
    chunked.rounded ? store_state<Narrow>(chunked, table, s, d, channels)
                    : store_state<float>(chunked, table, s, d, channels);
  } else if (!kAgain) {
    leave_end(chunked, table.offsets[s], chunk, d, channels);
  }
}

template <bool kAgain, class E>
void launch(const Context& context, const SequenceTable& table, const Chunked<E>& chunked, std::int64_t chunks) {
  const dim3 grid(blocks_for(chunked.scan.channels, kThreads), static_cast<unsigned>(table.count),
                  static_cast<unsigned>(chunks));
  const auto kernel =
      chunked.scan.multiplicity != nullptr ? scan_kernel<E, kAgain, true> : scan_kernel<E, kAgain, false>;
  launch_early(context, "selective scan", kernel, grid, kThreads, 0, table, chunked);
}

}  // namespace

template <class E>
void row_scan(Context& context, const RowScan<E>& scan, const ScanRows& rows) {
  const ScanCut cut(rows.offsets, scan.channels, context.processors());
  float* ends = nullptr;
  float* decays = nullptr;
  if (cut.chunks > 1) {
    ends = reinterpret_cast<float*>(context.scratch(cut.bytes(scan.channels)));
    decays = ends + cut.ends * kStates * scan.channels;
  }
  const Chunked<E> chunked{scan, static_cast<int>(cut.chunk_rows), ends, decays, !rows.rounded.empty()};
  for_tables(rows, [&](const SequenceTable& table, int longest) {
    const std::int64_t chunks = (longest + cut.chunk_rows - 1) / cut.chunk_rows;
    launch<false>(context, table, chunked, std::max<std::int64_t>(1, chunks - 1));
    if (chunks > 1) launch<true>(context, table, chunked, chunks - 1);
  });
}

template void row_scan(Context& context, const RowScan<float>& scan, const ScanRows& rows);
template void row_scan(Context& context, const RowScan<Narrow>& scan, const ScanRows& rows);

}  // namespace molt::cuda
