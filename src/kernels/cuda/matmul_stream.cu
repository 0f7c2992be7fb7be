// Products of up to 16 rows with weights in bfloat16 on compute capability 9.0: bound by reading the weights once.
//
// A block a multiprocessor takes tiles of 8 outputs; each of its warps takes a slice of the inputs, with x's part in
// registers, and multiplies on the tensor cores. Weights come in bulk copies to shared memory, well over 100 KB ahead;
// the first of them while the kernel before still runs, for they depend on nothing.
#include "kernels/cuda/matmul_stream.h"

#include <algorithm>

#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

constexpr int kRows = 16;
constexpr int kOutputs = 8;                    // of a tile
constexpr int kSteps = 20;                     // of 16 inputs, of a slice, at the most
constexpr int kRowElements = 16 * kSteps + 8;  // of a slice in shared memory: without bank conflicts

template <int kWarps>
struct Ring {
  static constexpr int kSlots = 32 / kWarps;  // tiles on their way
  alignas(128) __nv_bfloat16 weights[kWarps][kSlots][kOutputs][kRowElements];
  alignas(8) std::uint64_t arrived[kWarps][kSlots];
  float parts[2][kWarps][kRows][kOutputs];
  float scales[kRows];
};

__device__ inline unsigned address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

#if __CUDA_ARCH__ >= 900
__device__ inline void make_barrier(std::uint64_t* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(barrier)) : "memory");
}
__device__ inline void expect(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)), "r"(bytes) : "memory");
}
__device__ inline void copy(void* to, const void* from, int bytes, std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(to)),
      "l"(from), "r"(bytes), "r"(address(barrier))
      : "memory");
}
__device__ inline void wait_for(std::uint64_t* barrier, int parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra again;}" ::"r"(address(barrier)),
      "r"(parity)
      : "memory");
}
/// Barriers that were made are there for copies.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
#else
__device__ inline void make_barrier(std::uint64_t*) {}
__device__ inline void expect(std::uint64_t*, int) {}
__device__ inline void copy(void*, const void*, int, std::uint64_t*) {}
__device__ inline void wait_for(std::uint64_t*, int) {}
__device__ inline void publish_barriers() {}
#endif

/// x of a warp's slice as an operand, 16 rows or 8 of them: rows beyond the last are zeros.
template <bool kTall>
struct Inputs {
  std::uint32_t r[kSteps][kTall ? 4 : 2];

  __device__ void load(const __nv_bfloat16* x, int stride, int rows, int steps);
  __device__ Narrow::Left step(int k) const {
    if constexpr (kTall) return {{r[k][0], r[k][1], r[k][2], r[k][3]}};
    return {{r[k][0], 0, r[k][1], 0}};
  }
};

template <bool kTall>
__device__ void Inputs<kTall>::load(const __nv_bfloat16* x, int stride, int rows, int steps) {
  const Lane lane;
  const auto pair = [&](int row, int k) {
    return row < rows ? *reinterpret_cast<const std::uint32_t*>(x + row * stride + k) : 0U;
  };
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    const int column = 16 * k + 2 * lane.q;
#pragma unroll
    for (int part = 0; part < (kTall ? 4 : 2); ++part) {
      const int row = lane.g + (kTall ? part % 2 * 8 : 0), behind = (kTall ? part / 2 : part) * 8;
      r[k][part] = k < steps ? pair(row, column + behind) : 0;
    }
  }
}

/// Registers a thread: as few as it takes without spilling, to let a block stand beside those of the kernel before.
template <int kWarps, bool kTall>
constexpr int kRegisters = kTall ? (kWarps == 8 ? 168 : 128) : (kWarps == 8 ? 136 : 104);

/// kTall: more than 8 rows. steps: of 16 inputs, of each warp's slice; an even number.
template <int kWarps, bool kTall>
__global__ void __maxnreg__((kRegisters<kWarps, kTall>))
    stream_kernel(const __nv_bfloat16* x, const __nv_bfloat16* w, int rows, int steps,
                  const __grid_constant__ StepOutput out, const __grid_constant__ StateShift shift) {
  using R = Ring<kWarps>;
  extern __shared__ __align__(128) unsigned char memory[];
  R& ring = *reinterpret_cast<R*>(memory);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int stride = kWarps * 16 * steps;
  const int tiles = (out.outputs + kOutputs - 1) / kOutputs;
  const __nv_bfloat16* const slice = w + warp * 16 * steps;
  // The i-th tile of this block.
  const auto fetch = [&](int i) {
    const int n0 = (static_cast<int>(blockIdx.x) + i * static_cast<int>(gridDim.x)) * kOutputs;
    const int outputs = min(kOutputs, out.outputs - n0), slot = i % R::kSlots;
    if (outputs <= 0) return;
    if (lane == 0) expect(&ring.arrived[warp][slot], outputs * steps * 32);
    __syncwarp();
    if (lane < outputs) {
      copy(ring.weights[warp][slot][lane], slice + static_cast<std::int64_t>(n0 + lane) * stride, steps * 32,
           &ring.arrived[warp][slot]);
    }
  };
  let_next_start();
  if (lane < R::kSlots) make_barrier(&ring.arrived[warp][lane]);
  publish_barriers();
  __syncwarp();
  // What is read beside the weights is asked for first: behind them it would come late.
  if (out.adds) {
    for (int i = static_cast<int>(threadIdx.x);; i += 32 * kWarps) {
      const int tile = static_cast<int>(blockIdx.x) + i / rows * static_cast<int>(gridDim.x);
      if (tile >= tiles) break;
      asm volatile("prefetch.global.L2 [%0];" ::"l"(out.y.row(i % rows) + tile * kOutputs));
    }
  }
  for (int i = 0; i < R::kSlots; ++i) fetch(i);
  wait_for_previous();
  Inputs<kTall> a;
  a.load(x + warp * 16 * steps, stride, rows, steps);
  shift.run();
  if (out.squares != nullptr) {
    for (int t = warp; t < rows; t += kWarps) {
      const float scale = out.scale(t);
      if (lane == 0) ring.scales[t] = scale;
    }
  }
  const Lane place;
  const int t = static_cast<int>(threadIdx.x) / kOutputs;
  for (int i = 0, tile = static_cast<int>(blockIdx.x); tile < tiles; ++i, tile += static_cast<int>(gridDim.x)) {
    const int slot = i % R::kSlots;
    const int n = tile * kOutputs + static_cast<int>(threadIdx.x) % kOutputs;
    const bool puts = t < rows && n < out.outputs;
    const float before = puts ? out.before(t, n) : 0.0F;
    wait_for(&ring.arrived[warp][slot], i / R::kSlots % 2);
    const __nv_bfloat16* const from = ring.weights[warp][slot][0];
    float sums[2][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; k += 2) {
      if (k >= steps) break;
      // Of 8 outputs 32 inputs.
      Narrow::Right b[2];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(b[0].r[0]), "=r"(b[0].r[1]), "=r"(b[1].r[0]), "=r"(b[1].r[1])
                   : "r"(address(from + lane % 8 * kRowElements + 16 * k + lane / 8 * 8))
                   : "memory");
      Narrow::add_product(sums[0], a.step(k), b[0]);
      Narrow::add_product(sums[1], a.step(k + 1), b[1]);
    }
    float(&parts)[kRows][kOutputs] = ring.parts[i % 2][warp];
#pragma unroll
    for (int e = 0; e < 4; ++e) parts[place.g + e / 2 * 8][2 * place.q + e % 2] = sums[0][e] + sums[1][e];
    __syncwarp();
    fetch(i + R::kSlots);
    __syncthreads();
    if (puts) {
      float sum = 0;
#pragma unroll
      for (int part = 0; part < kWarps; ++part) sum += ring.parts[i % 2][part][t][threadIdx.x % kOutputs];
      out.y.row(t)[n] = sum * (out.squares != nullptr ? ring.scales[t] : 1.0F) + before;
    }
  }
}

template <int kWarps>
void launch(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w, std::int64_t first,
            const StepOutput& out, const StateShift& shift) {
  const auto kernel = rows > 8 ? stream_kernel<kWarps, true> : stream_kernel<kWarps, false>;
  constexpr int kBytes = sizeof(Ring<kWarps>);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "shared memory of a product");
  const unsigned grid = std::min(blocks_for(out.outputs, kOutputs), static_cast<unsigned>(context.processors()));
  launch_early(context, "matmul of a few rows", kernel, grid, 32 * kWarps, kBytes, x,
               reinterpret_cast<const __nv_bfloat16*>(w.row(first)), static_cast<int>(rows),
               static_cast<int>(w.stride() / (16 * kWarps)), out, shift);
}

template <int kWarps>
bool fits(const PackedRows& w) {
  return w.stride() % (32 * kWarps) == 0 && w.stride() <= 16 * kSteps * kWarps;
}

}  // namespace

bool can_stream(const Context& context, std::int64_t rows, const PackedRows& w) {
  return context.is_hopper() && rows <= kRows && w.stored() == DType::bf16 && (fits<8>(w) || fits<16>(w));
}

void stream_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                    std::int64_t first, const StepOutput& out, const StateShift& shift) {
  if (fits<8>(w)) return launch<8>(context, x, rows, w, first, out, shift);
  launch<16>(context, x, rows, w, first, out, shift);
}

}  // namespace molt::cuda
