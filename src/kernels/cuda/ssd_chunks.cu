// The state space dual scan in chunks (Dao & Gu 2024, section 6), as products on tensor cores.
//
// A block carries some channels of one head through a whole sequence, its state in registers: nothing but x, dt, B, C
// and y passes through memory. In each chunk of kRows rows, with cum the running sum of dt * m * A:
//   y = exp(cum) * (C S)  +  (C B' * exp(cum_i - cum_j) * dt_j, j <= i) x  +  D x
//   S = exp(cum_last) S   +  (B * exp(cum_last - cum_j) * dt_j)' x
// A warp takes 16 rows of y, and a quarter of the state's rows.
#include "kernels/cuda/ssd.h"
#include "kernels/cuda/stored_state.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 64;  // channels a block
constexpr double kLog2e = 1.4426950408889634;

/// kStates: the states of a head, rounded up.
template <class Math, int kStates>
struct Shape {
  using Element = typename Math::Element;
  // Float32 with 256 states would not fit in 64 rows.
  static constexpr int kRows = sizeof(Element) == 4 && kStates > 128 ? 32 : 64;
  static constexpr int kWide = kStates + Math::kPad;      // stride of B and C
  static constexpr int kNarrow = kColumns + Math::kPad;   // of x and S
  static constexpr int kTiles = kStates / 16 / kWarps;    // of 16 of the state's rows, a warp
  static constexpr int kColumnTiles = kColumns / 8;
};

template <class Math, int kStates>
struct Shared {
  using S = Shape<Math, kStates>;
  using Element = typename Math::Element;
  alignas(16) Element B[S::kRows * S::kWide];
  alignas(16) Element C[S::kRows * S::kWide];
  alignas(16) Element x[S::kRows * S::kNarrow];
  alignas(16) Element state[kStates * S::kNarrow];
  // Decays are powers of 2, their exponents sums of two floats: a difference of large ones is exact.
  float cum[S::kRows], cum_rest[S::kRows];
  float dt[S::kRows];
  float behind[S::kRows];  // what the end of the chunk keeps of each row's write: decay * dt

  /// The exponent of what row j's write has decayed by at row i.
  __device__ float between(int i, int j) const { return (cum[i] - cum[j]) + (cum_rest[i] - cum_rest[j]); }
};

/// Rows [first, first + rows) of m, columns [column, column + cols), into a tile of kRows x kCols; zeros elsewhere.
template <class Math, int kRows, int kCols>
__device__ void load_tile(Rows<const float> m, int first, int rows, int column, int cols, bool fours,
                          typename Math::Element* to, int stride) {
  if (fours) {
    constexpr int kAcross = kCols / 4;
#pragma unroll 8
    for (int i = threadIdx.x; i < kRows * kAcross; i += kThreads) {
      const int r = i / kAcross, c = i % kAcross * 4;
      float4 v{0, 0, 0, 0};
      if (r < rows && c < cols) v = *reinterpret_cast<const float4*>(m.row(first + r) + column + c);
      Math::store(to + r * stride + c, v);
    }
  } else {
    for (int i = threadIdx.x; i < kRows * kCols; i += kThreads) {
      const int r = i / kCols, c = i % kCols;
      Math::store(to + r * stride + c, r < rows && c < cols ? m.row(first + r)[column + c] : 0.0F);
    }
  }
}

template <class Math, int kStates>
class Block {
 public:
  using S = Shape<Math, kStates>;

  __device__ Block(const Ssd& ssd, int h, int p0, bool fours, Shared<Math, kStates>& shared)
      : ssd_(ssd), h_(h), p0_(p0), fours_(fours), columns_(min(kColumns, ssd.channels - p0)), sh_(shared) {}

  template <class T>
  __device__ void run(const SequenceTable& table, int s) {
    const StoredState<T> state{static_cast<T*>(table.states[s]) + ssd_.state_offset(h_), table.keys[s]};
    for_state([&](float& value, int n, int p) { value = state.get(n * ssd_.channels + p0_ + p); });
    const int end = table.offsets[s + 1];
    for (int first = table.offsets[s]; first < end; first += S::kRows) {
      const int rows = min(S::kRows, end - first);
      show_state();
      load(first, rows);
      __syncthreads();
      if (warp() * 16 < rows) write_y(first, rows);
      move_state(rows);
      __syncthreads();
    }
    for_state([&](float& value, int n, int p) {
      const int column = p0_ + p;
      state.set(n * ssd_.channels + column, static_cast<std::uint32_t>(h_ * ssd_.channels + column),
                static_cast<std::uint32_t>(n), value);
    });
  }

 private:
  static __device__ int warp() { return static_cast<int>(threadIdx.x) / 32; }
  static __device__ int state_row(int tile) { return (warp() * S::kTiles + tile) * 16; }

  /// body(value, n, p) for this thread's part of the state, within its bounds.
  template <class Body>
  __device__ void for_state(Body body) {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int ct = 0; ct < S::kColumnTiles; ++ct) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int n = state_row(tile) + lane_.g + i / 2 * 8, p = ct * 8 + 2 * lane_.q + i % 2;
          if (n < ssd_.states && p < columns_) body(state_[tile][ct][i], n, p);
        }
      }
    }
  }

  /// Writes the state where all warps can read it.
  __device__ void show_state() {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int ct = 0; ct < S::kColumnTiles; ++ct) {
        const float(&v)[4] = state_[tile][ct];
        auto* const to = sh_.state + (state_row(tile) + lane_.g) * S::kNarrow + ct * 8 + 2 * lane_.q;
        Math::store(to, v[0], v[1]);
        Math::store(to + 8 * S::kNarrow, v[2], v[3]);
      }
    }
  }

  __device__ void load(int first, int rows) {
    const int g = ssd_.group_column(h_);
    load_tile<Math, S::kRows, kStates>(ssd_.B, first, rows, g, ssd_.states, fours_, sh_.B, S::kWide);
    load_tile<Math, S::kRows, kStates>(ssd_.C, first, rows, g, ssd_.states, fours_, sh_.C, S::kWide);
    load_tile<Math, S::kRows, kColumns>(ssd_.x, first, rows, h_ * ssd_.channels + p0_, columns_, fours_, sh_.x,
                                        S::kNarrow);
    if (warp() == 0) sum_steps(first, rows);
  }

  /// One warp: cum, dt and behind.
  __device__ void sum_steps(int first, int rows) {
    constexpr int kEach = S::kRows / 32;
    const int begin = static_cast<int>(threadIdx.x) % 32 * kEach;
    double sums[kEach];
    float steps[kEach];
    double sum = 0;
    const double rate = static_cast<double>(ssd_.A[h_]) * kLog2e;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = begin + i;
      steps[i] = r < rows ? ssd_.dt.row(first + r)[h_] : 0.0F;
      const float m = ssd_.multiplicity != nullptr && r < rows ? ssd_.multiplicity[first + r] : 1.0F;
      sum += static_cast<double>(steps[i]) * static_cast<double>(m) * rate;
      sums[i] = sum;
    }
    double before = sum;  // of the lanes before and this one
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const double other = __shfl_up_sync(kAllLanes, before, step);
      if (static_cast<int>(threadIdx.x) % 32 >= step) before += other;
    }
    const double total = __shfl_sync(kAllLanes, before, 31);
    before -= sum;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const double cum = before + sums[i];
      const auto narrow = static_cast<float>(cum);
      sh_.cum[begin + i] = narrow;
      sh_.cum_rest[begin + i] = static_cast<float>(cum - static_cast<double>(narrow));
      sh_.dt[begin + i] = steps[i];
      sh_.behind[begin + i] = exp2f(static_cast<float>(total - cum)) * steps[i];
    }
  }

  /// This warp's 16 rows.
  __device__ void write_y(int first, int rows) {
    const int row0 = warp() * 16;
    float y[S::kColumnTiles][4] = {};
#pragma unroll 4
    for (int k = 0; k < kStates; k += 16) {
      const auto c = Math::left_along(sh_.C + row0 * S::kWide + k, S::kWide);
      add_rows(y, c, sh_.state + k * S::kNarrow);
    }
    const float top = exp2f(sh_.cum[row0 + lane_.g] + sh_.cum_rest[row0 + lane_.g]);
    const float bottom = exp2f(sh_.cum[row0 + lane_.g + 8] + sh_.cum_rest[row0 + lane_.g + 8]);
#pragma unroll
    for (int ct = 0; ct < S::kColumnTiles; ++ct) {
      y[ct][0] *= top, y[ct][1] *= top, y[ct][2] *= bottom, y[ct][3] *= bottom;
    }
    for (int j0 = 0; j0 <= row0; j0 += 16) {
      float products[2][4] = {};  // C B' of 16 rows and 16 earlier ones
#pragma unroll 4
      for (int k = 0; k < kStates; k += 16) {
        const auto c = Math::left_along(sh_.C + row0 * S::kWide + k, S::kWide);
        typename Math::Right b0, b1;
        Math::right_along(sh_.B + j0 * S::kWide + k, S::kWide, b0, b1);
        Math::add_product(products[0], c, b0);
        Math::add_product(products[1], c, b1);
      }
#pragma unroll
      for (int t = 0; t < 2; ++t) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int i = row0 + lane_.g + e / 2 * 8, j = j0 + t * 8 + 2 * lane_.q + e % 2;
          products[t][e] = j <= i ? products[t][e] * (exp2f(sh_.between(i, j)) * sh_.dt[j]) : 0.0F;
        }
      }
      add_rows(y, Math::left_of(products[0], products[1]), sh_.x + j0 * S::kNarrow);
    }
#pragma unroll
    for (int ct = 0; ct < S::kColumnTiles; ++ct) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = row0 + lane_.g + e / 2 * 8, p = ct * 8 + 2 * lane_.q + e % 2;
        if (i >= rows || p >= columns_) continue;
        const int column = h_ * ssd_.channels + p0_ + p;
        const float skip = ssd_.D == nullptr ? 0.0F : ssd_.D[column] * ssd_.x.row(first + i)[column];
        ssd_.y.row(first + i)[column] = y[ct][e] + skip;
      }
    }
  }

  /// y += left * (16 rows of x or of the state at `right`).
  __device__ void add_rows(float (&y)[S::kColumnTiles][4], const typename Math::Left& left,
                           const typename Math::Element* right) {
#pragma unroll
    for (int ct = 0; ct < S::kColumnTiles; ct += 2) {
      typename Math::Right b0, b1;
      Math::right_across(right + ct * 8, S::kNarrow, b0, b1);
      Math::add_product(y[ct], left, b0);
      Math::add_product(y[ct + 1], left, b1);
    }
  }

  __device__ void move_state(int rows) {
    const float decay = exp2f(sh_.cum[S::kRows - 1] + sh_.cum_rest[S::kRows - 1]);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int ct = 0; ct < S::kColumnTiles; ++ct) {
#pragma unroll
        for (int e = 0; e < 4; ++e) state_[tile][ct][e] *= decay;
      }
    }
    for (int j = 0; j < rows; j += 16) {
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        auto b = Math::left_across(sh_.B + j * S::kWide + state_row(tile), S::kWide);
        Math::scale(b, sh_.behind + j);
        add_rows(state_[tile], b, sh_.x + j * S::kNarrow);
      }
    }
  }

  const Ssd& ssd_;
  const int h_, p0_;
  const bool fours_;
  const int columns_;
  Shared<Math, kStates>& sh_;
  const Lane lane_;
  float state_[S::kTiles][S::kColumnTiles][4] = {};
};

template <class Math, int kStates>
__global__ void __launch_bounds__(kThreads)
    chunk_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Ssd ssd, bool rounded, bool fours,
                 int least_rows) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<Math, kStates>*>(memory);
  const int s = static_cast<int>(blockIdx.z);
  if (table.length(s) <= least_rows) return;
  Block<Math, kStates> block(ssd, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kColumns, fours, shared);
  if (rounded) {
    block.template run<__nv_bfloat16>(table, s);
  } else {
    block.template run<float>(table, s);
  }
}

template <class Math, int kStates>
void launch(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int least_rows) {
  const auto kernel = chunk_kernel<Math, kStates>;
  constexpr int kBytes = sizeof(Shared<Math, kStates>);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "shared memory of ssd");
  const auto in_fours = [](Rows<const float> m) {
    return reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0 && m.stride % 4 == 0;
  };
  const bool fours =
      in_fours(ssd.x) && in_fours(ssd.B) && in_fours(ssd.C) && ssd.channels % 4 == 0 && ssd.states % 4 == 0;
  const dim3 grid(blocks_for(ssd.channels, kColumns), static_cast<unsigned>(ssd.heads),
                  static_cast<unsigned>(table.count));
  kernel<<<grid, kThreads, kBytes, context.stream()>>>(table, ssd, rounded, fours, least_rows);
  check_launch("ssd in chunks");
}

template <class Math>
void launch(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int least_rows) {
  if (ssd.states <= 64) return launch<Math, 64>(context, table, ssd, rounded, least_rows);
  if (ssd.states <= 128) return launch<Math, 128>(context, table, ssd, rounded, least_rows);
  launch<Math, 256>(context, table, ssd, rounded, least_rows);
}

template <class Math>
int shared_bytes(int states) {
  if (states <= 64) return sizeof(Shared<Math, 64>);
  return states <= 128 ? sizeof(Shared<Math, 128>) : sizeof(Shared<Math, 256>);
}

}  // namespace

bool can_chunk(const Context& context, const Ssd& ssd, bool narrow) {
  if (ssd.states > 256) return false;
  const int bytes = narrow ? shared_bytes<Narrow>(ssd.states) : shared_bytes<Exact>(ssd.states);
  return bytes <= context.block_shared_bytes();
}

void ssd_chunks(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, bool narrow,
                int least_rows) {
  if (narrow) {
    launch<Narrow>(context, table, ssd, rounded, least_rows);
  } else {
    launch<Exact>(context, table, ssd, rounded, least_rows);
  }
}

}  // namespace molt::cuda
