// Products of up to 16 rows with coded weights, as in decoding: bound by reading the weights once.
//
// A block takes tiles of 8 outputs, each of its warps a part of the inputs with x's in registers, and multiplies on the
// tensor cores. Weights are on their way to shared memory some tiles ahead, the first ones before the kernel before has
// ended; each lane copies what it will read itself, so that nobody waits for others. Which of the hardware's inputs are
// which of ours does not matter to a sum, as long as both operands agree: four that lie together in a lane make a
// step's.
#include "kernels/cuda/coded_product.h"

#include <algorithm>

#include "kernels/cuda/coded_units.cuh"

namespace molt::cuda {
namespace {

constexpr int kRows = static_cast<int>(kMostCodedRows);
constexpr int kMostWarps = 16;
constexpr int kOwn = 5;         // chunks that a warp takes at a time, at the most
constexpr int kMostStages = 4;  // tiles on their way

/// A warp's share of shared memory for a chunk.
template <Coding kCoding>
constexpr int kChunkBytes = 32 * (Unit<kCoding>::kCodeBytes + 4 * Unit<kCoding>::kSides);

__device__ inline void end_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits for all groups but the last `behind`, which is less than kMostStages.
__device__ inline void wait_for_groups(int behind) {
  switch (behind) {
    case 0: asm volatile("cp.async.wait_group 0;" ::: "memory"); break;
    case 1: asm volatile("cp.async.wait_group 1;" ::: "memory"); break;
    case 2: asm volatile("cp.async.wait_group 2;" ::: "memory"); break;
    default: asm volatile("cp.async.wait_group 3;" ::: "memory");
  }
}
static_assert(kMostStages == 4);

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

/// What the launch says about how the inputs are divided.
struct Division {
  int own;     // chunks a warp, at a time
  int passes;  // how often that covers all of them
  int stages;  // tiles on their way, passes counted each
};

template <Coding kCoding, bool kTall, class X>
__global__ void __launch_bounds__(32 * kMostWarps)
    coded_kernel(Rows<const X> x, bool aligned, int rows, int in, const __grid_constant__ Coded w, int first,
                 Division division, const __grid_constant__ StepOutput out, const __grid_constant__ StateShift shift) {
  using U = Unit<kCoding>;
  __shared__ float parts[2][kMostWarps][kRows][kTileOutputs];
  __shared__ float scales[kRows];
  __shared__ unsigned table[8];
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_tile = first / kTileOutputs;
  const int tiles = (first + out.outputs + kTileOutputs - 1) / kTileOutputs - first_tile;
  extern __shared__ __align__(16) std::byte ring[];  // [stages, warps, own] chunks
  // Item j: the (j % passes)-th part of the inputs of this block's (j / passes)-th tile.
  const auto first_chunk = [&](int j) { return (j % division.passes * warps + warp) * division.own; };
  const auto codes_at = [&](int j, int c) {
    return ring + ((j % division.stages * warps + warp) * division.own + c) * kChunkBytes<kCoding> +
           lane * U::kCodeBytes;
  };
  const auto side_at = [&](int j, int c) {
    std::byte* const chunk = codes_at(j, c) - lane * U::kCodeBytes;
    return reinterpret_cast<std::uint32_t*>(chunk + 32 * U::kCodeBytes) + lane;
  };
  const auto fetch = [&](int j) {
    const int tile = static_cast<int>(blockIdx.x) + j / division.passes * static_cast<int>(gridDim.x);
    for (int c = 0; c < division.own; ++c) {
      const int chunk = first_chunk(j) + c;
      if (tile < tiles && chunk < w.chunks) {
        U::fetch(w, first_tile + tile, chunk, lane, codes_at(j, c), side_at(j, c));
      }
    }
    end_group();
  };
  let_next_start();
  for (int j = 0; j < division.stages; ++j) fetch(j);
  make_table<kCoding>(table);
  wait_for_previous();
  Inputs<kTall> inputs;
  inputs.load(x, aligned, rows, in, first_chunk(0));
  shift.run();
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
      const int j = i * division.passes + pass;
      if (division.passes > 1) inputs.load(x, aligned, rows, in, first_chunk(j));
      wait_for_groups(division.stages - 1);
#pragma unroll
      for (int c = 0; c < kOwn; ++c) {
        if (c >= division.own || first_chunk(j) + c >= w.chunks) break;
        U unit;
        unit.take(w, lane, codes_at(j, c), side_at(j, c));
        add_chunk(inputs, c, unit, table, sums);
      }
      fetch(j + division.stages);
    }
    float(&own)[kRows][kTileOutputs] = parts[i % 2][warp];
#pragma unroll
    for (int e = 0; e < 4; ++e) own[place.g + e / 2 * 8][2 * place.q + e % 2] = sums[e];
    __syncthreads();
    if (!puts) continue;
    float sum = 0;
    for (int part = 0; part < warps; ++part) sum += parts[i % 2][part][t][threadIdx.x % kTileOutputs];
    if constexpr (U::kScalesOutputs) sum *= reinterpret_cast<const float*>(w.side)[first + n];
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
  const int stage_bytes = warps * own * kChunkBytes<kCoding>;
  constexpr int kOthers = 20 << 10;  // what else a block keeps there, and what the system takes of it
  const int room = (context.block_shared_bytes() / (kMostWarps / warps) - kOthers) / stage_bytes;
  const int stages = std::clamp(room, 1, kMostStages);
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
