// Products of up to 16 rows with coded weights, as in decoding: bound by reading the weights once.
//
// A block takes tiles of 8 outputs, each of its warps a part of the inputs with x's in registers, and multiplies on the
// tensor cores. Weights come ahead, the first ones before the kernel before has ended; each lane fetches what it will
// use itself, so that nobody waits for others. Which of the hardware's inputs are which of ours does not matter to a
// sum, as long as both operands agree: four that lie together in a lane make a step's.
#include "kernels/cuda/coded_product.h"

#include <algorithm>

#include "kernels/cuda/coded_ahead.cuh"
#include "kernels/cuda/coded_units.cuh"

namespace molt::cuda {
namespace {

constexpr int kRows = static_cast<int>(kMostCodedRows);
constexpr int kMostWarps = 16;

/// Whether weights come through shared memory, some tiles ahead, or into registers, one tile ahead. Measured: codes of
/// 4 bits take 14.7 instead of 18.2 us so, the others 18.5 instead of 17.6 (2:4) and 19.6 instead of 15.0 (8 bits).
template <Coding kCoding>
constexpr bool kThroughShared = kCoding == Coding::nibbles;

/// Eight inputs of a row from `k` on in bfloat16, zeros behind the last.
template <class X>
__device__ uint4 load_eight(const X* row, int k, int in, bool aligned) {
  float v[8] = {};
  if constexpr (sizeof(X) == 2) {
    if (aligned) return k < in ? *reinterpret_cast<const uint4*>(row + k) : uint4{0, 0, 0, 0};
  } else if (aligned && k + 8 <= in) {
    const float4 a = *reinterpret_cast<const float4*>(row + k), b = *reinterpret_cast<const float4*>(row + k + 4);
    return {Narrow::pack(a.x, a.y), Narrow::pack(a.z, a.w), Narrow::pack(b.x, b.y), Narrow::pack(b.z, b.w)};
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (k + i < in) v[i] = static_cast<float>(row[k + i]);
  }
  return {Narrow::pack(v[0], v[1]), Narrow::pack(v[2], v[3]), Narrow::pack(v[4], v[5]), Narrow::pack(v[6], v[7])};
}

/// x of a warp's chunks as operands, 16 rows or 8 of them: rows beyond the last are zeros.
template <bool kTall>
struct Inputs {
  static constexpr int kHeight = kTall ? 2 : 1;
  uint4 eights[kOwn][2][kHeight];  // halves of a chunk

  template <class X>
  __device__ void load(Rows<const X> x, bool aligned, int rows, int in, int first_chunk) {
    const Lane lane;
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = (first_chunk + c) * kChunkInputs + half * kChunkInputs / 2 + 8 * lane.q;
#pragma unroll
        for (int part = 0; part < kHeight; ++part) {
          const int t = lane.g + 8 * part;
          eights[c][half][part] = t < rows ? load_eight(x.row(t), k, in, aligned) : uint4{0, 0, 0, 0};
        }
      }
    }
  }

  __device__ Narrow::Left step(int c, int s) const {
    const uint4 top = eights[c][s / 2][0];
    const unsigned first = s % 2 == 0 ? top.x : top.z, second = s % 2 == 0 ? top.y : top.w;
    if constexpr (!kTall) return {{first, 0, second, 0}};
    const uint4 bottom = eights[c][s / 2][kHeight - 1];
    return {{first, s % 2 == 0 ? bottom.x : bottom.z, second, s % 2 == 0 ? bottom.y : bottom.w}};
  }
};

/// sums += x * chunk c of the unit's weights, scaled where each half has a scale of its own.
template <Coding kCoding, bool kTall>
__device__ void add_chunk(const Inputs<kTall>& x, int c, const Unit<kCoding>& unit, const unsigned* table,
                          float (&sums)[4]) {
  if constexpr (!Unit<kCoding>::kScalesHalves) {
#pragma unroll
    for (int s = 0; s < kStepsAChunk; ++s) Narrow::add_product(sums, x.step(c, s), unit.step(s, table));
  } else {
    const Lane lane;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float part[4] = {};
#pragma unroll
      for (int s = 2 * half; s < 2 * half + 2; ++s) Narrow::add_product(part, x.step(c, s), unit.step(s, table));
      // The sums are of outputs 2q and 2q + 1, this lane's scale is of output g.
      const float own = unit.scale(half);
      const float even = __shfl_sync(kAllLanes, own, 8 * lane.q), odd = __shfl_sync(kAllLanes, own, 8 * lane.q + 4);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[e] += part[e] * (e % 2 == 0 ? even : odd);
    }
  }
}

template <Coding kCoding, bool kTall, class X>
__global__ void __launch_bounds__(32 * kMostWarps)
    coded_kernel(Rows<const X> x, bool aligned, int rows, int in, const __grid_constant__ Coded w, int first,
                 Division division, const __grid_constant__ StepOutput out, const __grid_constant__ StateShift shift) {
  __shared__ float parts[2][kMostWarps][kRows][kTileOutputs];
  __shared__ float scales[kRows];
  __shared__ unsigned table[8];
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_tile = first / kTileOutputs;
  const int tiles = (first + out.outputs + kTileOutputs - 1) / kTileOutputs - first_tile;
  extern __shared__ __align__(16) std::byte ring[];  // Ahead's
  const Share share{division, tiles, first_tile, warps, warp, lane};
  Ahead<kCoding, kThroughShared<kCoding>> ahead(w, share, ring);
  let_next_start();
  ahead.start();
  make_table<kCoding>(table);
  wait_for_previous();
  Inputs<kTall> inputs;
  inputs.load(x, aligned, rows, in, share.first_chunk(0));
  shift.run(threadIdx.x, blockDim.x);
  if (out.squares != nullptr) {
    for (int t = warp; t < rows; t += warps) {
      const float scale = out.scale(t);
      if (lane == 0) scales[t] = scale;
    }
  }
  __syncthreads();
  const Lane place;
  const int t = static_cast<int>(threadIdx.x) / kTileOutputs;
  for (int i = 0, tile = static_cast<int>(blockIdx.x); tile < tiles; ++i, tile += static_cast<int>(gridDim.x)) {
    const int n = (first_tile + tile) * kTileOutputs + static_cast<int>(threadIdx.x) % kTileOutputs - first;
    const bool puts = t < rows && n >= 0 && n < out.outputs;
    const float before = puts ? out.before(t, n) : 0.0F;
    float sums[4] = {};
    for (int pass = 0; pass < division.passes; ++pass) {
      const int mine = share.chunks(w, pass);
      if (division.passes > 1) inputs.load(x, aligned, rows, in, share.first_chunk(pass));
      ahead.begin();
#pragma unroll
      for (int c = 0; c < kOwn; ++c) {
        if (c >= mine) break;
        add_chunk(inputs, c, ahead.unit(c), table, sums);
        ahead.used(c);
      }
      // What this pass had no chunk for, the next one may.
      if (division.passes > 1) {
#pragma unroll
        for (int c = 0; c < kOwn; ++c) {
          if (c >= mine) ahead.used(c);
        }
      }
      ahead.end();
    }
    float(&own)[kRows][kTileOutputs] = parts[i % 2][warp];
#pragma unroll
    for (int e = 0; e < 4; ++e) own[place.g + e / 2 * 8][2 * place.q + e % 2] = sums[e];
    __syncthreads();
    if (!puts) continue;
    float sum = 0;
    for (int part = 0; part < warps; ++part) sum += parts[i % 2][part][t][threadIdx.x % kTileOutputs];
    if constexpr (Unit<kCoding>::kScalesOutputs) sum *= reinterpret_cast<const float*>(w.side)[first + n];
    out.y.row(t)[n] = sum * (out.squares != nullptr ? scales[t] : 1.0F) + before;
  }
}

template <Coding kCoding, class X>
void launch(Rows<const X> x, bool aligned, std::int64_t rows, std::int64_t in, const CodedRows& w, std::int64_t first,
            const StepOutput& out, const StateShift& shift) {
  const Context& context = Context::get();
  const Coded coded(w);
  const int warps = coded.chunks <= 4 * kOwn ? 4 : coded.chunks <= 8 * kOwn ? 8 : kMostWarps;
  const int passes = (coded.chunks + warps * kOwn - 1) / (warps * kOwn);
  const int own = (coded.chunks + warps * passes - 1) / (warps * passes);
  // As many blocks on a multiprocessor as have kMostWarps warps share its memory.
  const int stage_bytes = kThroughShared<kCoding> ? warps * own * kChunkBytes<kCoding> : 0;
  constexpr int kOthers = 20 << 10;  // what else a block keeps there, and what the system takes of it
  const int room = context.block_shared_bytes() / (kMostWarps / warps) - kOthers;
  const int stages = stage_bytes == 0 ? 1 : std::clamp(room / stage_bytes, 1, kMostStages);
  const std::int64_t end = first + out.outputs;
  const auto tiles = static_cast<unsigned>((end + kTileOutputs - 1) / kTileOutputs - first / kTileOutputs);
  const unsigned grid = std::min(tiles, static_cast<unsigned>(context.processors() * kMostWarps / warps));
  const auto kernel = rows > 8 ? coded_kernel<kCoding, true, X> : coded_kernel<kCoding, false, X>;
  const int bytes = stages * stage_bytes;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "shared memory of a product");
  launch_early(context, "product with coded weights", kernel, grid, 32 * warps, static_cast<std::size_t>(bytes), x,
               aligned, static_cast<int>(rows), static_cast<int>(in), coded, static_cast<int>(first),
               Division{own, passes, stages}, out, shift);
}

template <class X>
void product(Rows<const X> x, bool aligned, std::int64_t rows, std::int64_t in, const CodedRows& w, std::int64_t first,
             const StepOutput& out, const StateShift& shift) {
  switch (w.size().coding) {
    case Coding::bytes: return launch<Coding::bytes>(x, aligned, rows, in, w, first, out, shift);
    case Coding::nibbles: return launch<Coding::nibbles>(x, aligned, rows, in, w, first, out, shift);
    case Coding::pairs: return launch<Coding::pairs>(x, aligned, rows, in, w, first, out, shift);
  }
}

}  // namespace

void coded_product(Matrix<const float> x, const CodedRows& w, std::int64_t first, const StepOutput& out) {
  product(Rows<const float>(x), in_fours(x), x.rows, x.cols, w, first, out, StateShift{});
}

void coded_product(Rows<const __nv_bfloat16> x, std::int64_t rows, const CodedRows& w, const StepOutput& out,
                   const StateShift& shift) {
  product(x, true, rows, w.in_features(), w, 0, out, shift);
}

}  // namespace molt::cuda
