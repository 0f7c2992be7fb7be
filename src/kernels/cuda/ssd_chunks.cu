// The state space dual scan in chunks (Dao & Gu 2024, section 6), as products on tensor cores.
//
// A first pass lays x, B and C out as the products want them (ssd_layout.cu) and sums the steps of each chunk, a second
// one multiplies C B', which the heads of a group share. Then a block carries some channels of one head through a whole
// sequence, its state in registers: no state passes through memory. In each chunk of kRows rows, with cum the running
// sum of dt * m * A:
//   y = exp(cum) * (C S)  +  (C B' * exp(cum_i - cum_j) * dt_j, j <= i) x  +  D x
//   S = exp(cum_last) S   +  (B * exp(cum_last - cum_j) * dt_j)' x
// A warp takes 16 rows of y, and a quarter of the state's rows.
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/ssd.h"
#include "kernels/cuda/ssd_layout.h"
#include "kernels/cuda/stored_state.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 64;  // channels a block

/// kStates: the states of a head, rounded up.
template <class Math, int kStates>
struct Shape {
  using Element = typename Math::Element;
  static constexpr int kRows = kChunkRows;
  static constexpr int kWide = kStates + Math::kPad;     // stride of B and C
  static constexpr int kNarrow = kColumns + Math::kPad;  // of x and S
  static constexpr int kGram = kRows + Math::kPad;       // of C B'
  static constexpr int kTiles = kStates / 16 / kWarps;   // of 16 of the state's rows, a warp
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
  alignas(16) Element gram[S::kRows * S::kGram];
  // Decays are powers of 2, their exponents sums of two floats: a difference of large ones is exact.
  float cum[S::kRows], cum_rest[S::kRows];
  float dt[S::kRows];
  float behind[S::kRows];  // what the end of the chunk keeps of each row's write: decay * dt

  /// The exponent of what row j's write has decayed by at row i.
  __device__ float between(int i, int j) const { return (cum[i] - cum[j]) + (cum_rest[i] - cum_rest[j]); }
};

/// `rows` rows of `cols` columns (a multiple of 16 bytes) into a tile of kRows x kCols; zeros elsewhere.
template <int kRows, int kCols, class Element>
__device__ void fetch_tile(const Element* from, std::int64_t from_stride, int rows, int cols, Element* to, int stride) {
  constexpr int kEach = 16 / sizeof(Element);
  constexpr int kAcross = kCols / kEach;
#pragma unroll 4
  for (int i = threadIdx.x; i < kRows * kAcross; i += kThreads) {
    const int r = i / kAcross, c = i % kAcross * kEach;
    const bool there = r < rows && c < cols;
    copy_unit(to + r * stride + c, there ? from + r * from_stride + c : from, there);
  }
}

/// C B' of a chunk of a group: a warp takes 16 rows and those before them.
template <class Math, int kStates>
__global__ void __launch_bounds__(kThreads)
    gram_kernel(const __grid_constant__ SequenceTable table,
                const __grid_constant__ SsdLayout<typename Math::Element> layout, int least_rows) {
  using S = Shape<Math, kStates>;
  using Element = typename Math::Element;
  extern __shared__ __align__(16) unsigned char memory[];
  auto* const B = reinterpret_cast<Element*>(memory);
  Element* const C = B + S::kRows * S::kWide;
  const int s = static_cast<int>(blockIdx.z), g = static_cast<int>(blockIdx.y);
  const int first = table.offsets[s] + static_cast<int>(blockIdx.x) * S::kRows;
  const int rows = min(S::kRows, table.offsets[s + 1] - first);
  if (table.length(s) <= least_rows || rows <= 0) return;
  const Element* const row = layout.row(first);
  fetch_tile<S::kRows, kStates>(row + layout.B(g), layout.stride, rows, layout.states, B, S::kWide);
  fetch_tile<S::kRows, kStates>(row + layout.C(g), layout.stride, rows, layout.states, C, S::kWide);
  wait_for_copies();
  __syncthreads();
  const Lane lane;
  const int row0 = static_cast<int>(threadIdx.x) / 32 * 16;
  for (int j0 = 0; j0 <= row0; j0 += 16) {
    float products[2][4] = {};
#pragma unroll 4
    for (int k = 0; k < kStates; k += 16) {
      const auto c = Math::left_along(C + row0 * S::kWide + k, S::kWide);
      typename Math::Right b0, b1;
      Math::right_along(B + j0 * S::kWide + k, S::kWide, b0, b1);
      Math::add_product(products[0], c, b0);
      Math::add_product(products[1], c, b1);
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = row0 + lane.g + half * 8;
        if (i >= rows) continue;
        Math::store(layout.products(first + i, g) + j0 + t * 8 + 2 * lane.q, products[t][2 * half],
                    products[t][2 * half + 1]);
      }
    }
  }
}

template <class Math, int kStates>
void multiply_rows(Context& context, const SequenceTable& table, const SsdLayout<typename Math::Element>& layout,
                   int least_rows) {
  using S = Shape<Math, kStates>;
  constexpr int kBytes = 2 * S::kRows * S::kWide * static_cast<int>(sizeof(typename Math::Element));
  const auto kernel = gram_kernel<Math, kStates>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "shared memory of ssd");
  int longest = 0;
  for (int s = 0; s < table.count; ++s) longest = std::max(longest, table.length(s));
  const dim3 grid(blocks_for(longest, S::kRows), static_cast<unsigned>(layout.groups),
                  static_cast<unsigned>(table.count));
  kernel<<<grid, kThreads, kBytes, context.stream()>>>(table, layout, least_rows);
  check_launch("products of rows of ssd");
}

template <class Math, int kStates>
class Block {
 public:
  using S = Shape<Math, kStates>;

  using Element = typename Math::Element;

  __device__ Block(const Ssd& ssd, const SsdLayout<Element>& layout, int h, int p0, int turn,
                   Shared<Math, kStates>& shared)
      : ssd_(ssd),
        layout_(layout),
        h_(h),
        p0_(p0),
        turn_(turn),
        columns_(min(kColumns, ssd.channels - p0)),
        sh_(shared) {}

  template <class T>
  __device__ void run(const SequenceTable& table, int s) {
    const StoredState<T> state{static_cast<T*>(table.states[s]) + ssd_.state_offset(h_), table.key(s)};
    for_state([&](float& value, int n, int p) { value = state.get(n * ssd_.channels + p0_ + p); });
    const int end = table.offsets[s + 1];
    for (int first = table.offsets[s]; first < end; first += S::kRows) {
      const int rows = min(S::kRows, end - first);
      fetch(first, rows);
      show_state();
      wait_for_copies();
      __syncthreads();
      const int row0 = (warp() + turn_) % kWarps * 16;
      if (row0 < rows) write_y(first, row0, rows);
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

  __device__ void fetch(int first, int rows) {
    const Element* const row = layout_.row(first);
    const int g = h_ / (ssd_.heads / ssd_.groups);
    fetch_tile<S::kRows, kStates>(row + layout_.B(g), layout_.stride, rows, layout_.states, sh_.B, S::kWide);
    fetch_tile<S::kRows, kStates>(row + layout_.C(g), layout_.stride, rows, layout_.states, sh_.C, S::kWide);
    fetch_tile<S::kRows, kColumns>(row + layout_.x(h_) + p0_, layout_.stride, rows, layout_.channels - p0_, sh_.x,
                                   S::kNarrow);
    fetch_tile<S::kRows, S::kRows>(layout_.products(first, g), layout_.groups * std::int64_t{kChunkRows}, rows,
                                   S::kRows, sh_.gram, S::kGram);
    const int r = static_cast<int>(threadIdx.x);
    if (r >= S::kRows) return;
    // Behind the last row nothing is added and nothing decays.
    const float4 steps = layout_.steps(first + min(r, rows - 1), h_);
    sh_.cum[r] = steps.x;
    sh_.cum_rest[r] = steps.y;
    sh_.dt[r] = r < rows ? steps.z : 0.0F;
    sh_.behind[r] = r < rows ? steps.w : 0.0F;
  }

  /// 16 rows, from row0 on.
  __device__ void write_y(int first, int row0, int rows) {
    float y[S::kColumnTiles][4] = {};
#pragma unroll 4
    for (int k = 0; k < kStates; k += 16) {
      const auto c = Math::left_along(sh_.C + row0 * S::kWide + k, S::kWide);
      add_rows(y, c, sh_.state + k * S::kNarrow);
    }
    const float top = power_of_2(sh_.cum[row0 + lane_.g] + sh_.cum_rest[row0 + lane_.g]);
    const float bottom = power_of_2(sh_.cum[row0 + lane_.g + 8] + sh_.cum_rest[row0 + lane_.g + 8]);
#pragma unroll
    for (int ct = 0; ct < S::kColumnTiles; ++ct) {
      y[ct][0] *= top, y[ct][1] *= top, y[ct][2] *= bottom, y[ct][3] *= bottom;
    }
    for (int j0 = 0; j0 <= row0; j0 += 16) {
      float products[2][4];  // C B' of 16 rows and 16 earlier ones, decayed
#pragma unroll
      for (int t = 0; t < 2; ++t) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = row0 + lane_.g + half * 8, j = j0 + t * 8 + 2 * lane_.q;
          const float2 pair = Math::load(sh_.gram + i * S::kGram + j);
          products[t][2 * half] = j <= i ? pair.x * (power_of_2(sh_.between(i, j)) * sh_.dt[j]) : 0.0F;
          products[t][2 * half + 1] = j + 1 <= i ? pair.y * (power_of_2(sh_.between(i, j + 1)) * sh_.dt[j + 1]) : 0.0F;
        }
      }
      add_rows(y, Math::left_of(products[0], products[1]), sh_.x + j0 * S::kNarrow);
    }
    store_y(y, first, row0, rows);
  }

  __device__ void store_y(const float (&y)[S::kColumnTiles][4], int first, int row0, int rows) {
#pragma unroll
    for (int ct = 0; ct < S::kColumnTiles; ++ct) {
      const int p = ct * 8 + 2 * lane_.q;
      if (p >= columns_) continue;
      const int column = h_ * ssd_.channels + p0_ + p;
      const bool pair = p + 1 < columns_;
      const float skip0 = ssd_.D == nullptr ? 0.0F : ssd_.D[column];
      const float skip1 = ssd_.D == nullptr || !pair ? 0.0F : ssd_.D[column + 1];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = row0 + lane_.g + half * 8;
        if (i >= rows) continue;
        const Element* const x = sh_.x + i * S::kNarrow + p;
        const float y0 = y[ct][2 * half] + skip0 * static_cast<float>(x[0]);
        const float y1 = y[ct][2 * half + 1] + skip1 * static_cast<float>(x[1]);
        float* const to = ssd_.y.row(first + i) + column;
        if (pair && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
          *reinterpret_cast<float2*>(to) = {y0, y1};
        } else {
          to[0] = y0;
          if (pair) to[1] = y1;
        }
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
    const float decay = power_of_2(sh_.cum[S::kRows - 1] + sh_.cum_rest[S::kRows - 1]);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int ct = 0; ct < S::kColumnTiles; ++ct) {
#pragma unroll
        for (int e = 0; e < 4; ++e) state_[tile][ct][e] *= decay;
      }
    }
    for (int j = 0; j < rows; j += 16) {
      typename Math::Left b[S::kTiles];
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        b[tile] = Math::left_across(sh_.B + j * S::kWide + state_row(tile), S::kWide);
        Math::scale(b[tile], sh_.behind + j);
      }
#pragma unroll
      for (int ct = 0; ct < S::kColumnTiles; ct += 2) {
        typename Math::Right x0, x1;
        Math::right_across(sh_.x + j * S::kNarrow + ct * 8, S::kNarrow, x0, x1);
#pragma unroll
        for (int tile = 0; tile < S::kTiles; ++tile) {
          Math::add_product(state_[tile][ct], b[tile], x0);
          Math::add_product(state_[tile][ct + 1], b[tile], x1);
        }
      }
    }
  }

  const Ssd& ssd_;
  const SsdLayout<Element>& layout_;
  const int h_, p0_;
  const int turn_;  // which rows are a warp's: later ones take longer, and a multiprocessor's blocks should differ
  const int columns_;
  Shared<Math, kStates>& sh_;
  const Lane lane_;
  float state_[S::kTiles][S::kColumnTiles][4] = {};
};

template <class Math, int kStates>
__global__ void __launch_bounds__(kThreads, sizeof(typename Math::Element) == 2 && kStates <= 128 ? 3 : 1)
    chunk_kernel(const __grid_constant__ SequenceTable table, const __grid_constant__ Ssd ssd,
                 const __grid_constant__ SsdLayout<typename Math::Element> layout, bool rounded, int least_rows,
                 int processors) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<Math, kStates>*>(memory);
  const int s = static_cast<int>(blockIdx.z);
  if (table.length(s) <= least_rows) return;
  const unsigned number = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  Block<Math, kStates> block(ssd, layout, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kColumns,
                             static_cast<int>(number / static_cast<unsigned>(processors)), shared);
  if (rounded) {
    block.template run<__nv_bfloat16>(table, s);
  } else {
    block.template run<float>(table, s);
  }
}

template <class Math, int kStates>
void launch(Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int least_rows) {
  const auto layout = lay_out<typename Math::Element>(context, table, ssd);
  multiply_rows<Math, kStates>(context, table, layout, least_rows);
  if constexpr (sizeof(typename Math::Element) == 2) {
    if (can_use_panels(context, ssd.states)) {
      return ssd_panels(context, table, ssd, layout, ssd.y, rounded, least_rows);
    }
  }
  const auto kernel = chunk_kernel<Math, kStates>;
  constexpr int kBytes = sizeof(Shared<Math, kStates>);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "shared memory of ssd");
  const dim3 grid(blocks_for(ssd.channels, kColumns), static_cast<unsigned>(ssd.heads),
                  static_cast<unsigned>(table.count));
  kernel<<<grid, kThreads, kBytes, context.stream()>>>(table, ssd, layout, rounded, least_rows, context.processors());
  check_launch("ssd in chunks");
}

template <class Math>
void launch(Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int least_rows) {
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

void multiply_rows(Context& context, const SequenceTable& table, const SsdLayout<__nv_bfloat16>& layout,
                   int least_rows) {
  if (layout.states <= 64) return multiply_rows<Narrow, 64>(context, table, layout, least_rows);
  if (layout.states <= 128) return multiply_rows<Narrow, 128>(context, table, layout, least_rows);
  multiply_rows<Narrow, 256>(context, table, layout, least_rows);
}

void ssd_chunks(Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, bool narrow,
                int least_rows) {
  if (narrow) {
    launch<Narrow>(context, table, ssd, rounded, least_rows);
  } else {
    launch<Exact>(context, table, ssd, rounded, least_rows);
  }
}

}  // namespace molt::cuda
