// Coded weights as numbers again: in bfloat16, for products of many rows, or rows of a table in float32.
#include "kernels/cuda/coded_product.h"
#include "kernels/cuda/coded_units.cuh"

namespace molt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// The factor of a unit's weights of a half, of output n.
template <Coding kCoding>
__device__ float factor(const Coded& w, const Unit<kCoding>& unit, int n, int half) {
  if constexpr (Unit<kCoding>::kScalesOutputs) return reinterpret_cast<const float*>(w.side)[n];
  if constexpr (Unit<kCoding>::kScalesHalves) return unit.scale(half);
  return 1.0F;
}

/// The eight weights of a half.
template <Coding kCoding>
__device__ void unpack(const Unit<kCoding>& unit, int half, float scale, const unsigned* table, float (&v)[8]) {
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    const Narrow::Right four = unit.step(2 * half + s, table);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      v[4 * s + 2 * i] = scale * Narrow::low(four.r[i]);
      v[4 * s + 2 * i + 1] = scale * Narrow::high(four.r[i]);
    }
  }
}

/// Outputs [first, first + count): a warp a chunk of a tile.
template <Coding kCoding>
__global__ void __launch_bounds__(kThreads)
    widen_kernel(const __grid_constant__ Coded w, int first, int count, __nv_bfloat16* to, int stride) {
  __shared__ unsigned table[8];
  make_table<kCoding>(table);
  __syncthreads();
  const Lane place;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int chunk = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int tile = first / kTileOutputs + static_cast<int>(blockIdx.y);
  const int n = tile * kTileOutputs + place.g;
  if (chunk >= w.chunks || n < first || n >= first + count) return;
  Unit<kCoding> unit;
  unit.load(w, tile, chunk, lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = chunk * kChunkInputs + half * kChunkInputs / 2 + 8 * place.q;
    if (k >= stride) continue;
    float v[8];
    unpack(unit, half, factor(w, unit, n, half), table, v);
    *reinterpret_cast<uint4*>(to + static_cast<std::int64_t>(n - first) * stride + k) = {
        Narrow::pack(v[0], v[1]), Narrow::pack(v[2], v[3]), Narrow::pack(v[4], v[5]), Narrow::pack(v[6], v[7])};
  }
}

/// A block a row of y; a thread a lane's share of the row's weights.
template <Coding kCoding>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const __grid_constant__ Coded w, const TokenId* ids, Rows<float> y, int cols) {
  __shared__ unsigned table[8];
  make_table<kCoding>(table);
  __syncthreads();
  const int n = static_cast<int>(ids[blockIdx.x]);
  for (int i = static_cast<int>(threadIdx.x); i < 4 * w.chunks; i += kThreads) {
    const int chunk = i / 4, q = i % 4;
    Unit<kCoding> unit;
    unit.load(w, n / kTileOutputs, chunk, n % kTileOutputs * 4 + q);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = chunk * kChunkInputs + half * kChunkInputs / 2 + 8 * q;
      float v[8];
      unpack(unit, half, factor(w, unit, n, half), table, v);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (k + e < cols) y.row(blockIdx.x)[k + e] = v[e];
      }
    }
  }
}

/// run(a value of the coding's type).
template <class Run>
void with_coding(const CodedRows& w, Run run) {
  switch (w.size().coding) {
    case Coding::bytes: return run(std::integral_constant<Coding, Coding::bytes>{});
    case Coding::nibbles: return run(std::integral_constant<Coding, Coding::nibbles>{});
    case Coding::pairs: return run(std::integral_constant<Coding, Coding::pairs>{});
  }
}

}  // namespace

void widen(const Context& context, const CodedRows& w, std::int64_t first, std::int64_t count, __nv_bfloat16* to,
           std::int64_t stride) {
  const Coded coded(w);
  const auto tiles = (first + count + kTileOutputs - 1) / kTileOutputs - first / kTileOutputs;
  const dim3 grid(blocks_for(coded.chunks, kWarps), static_cast<unsigned>(tiles));
  with_coding(w, [&](auto coding) {
    widen_kernel<coding()><<<grid, kThreads, 0, context.stream()>>>(
        coded, static_cast<int>(first), static_cast<int>(count), to, static_cast<int>(stride));
  });
  check_launch("widening weights");
}

void coded_embed(const Context& context, const CodedRows& table, const TokenId* ids, Matrix<float> y) {
  with_coding(table, [&](auto coding) {
    embed_kernel<coding()><<<static_cast<unsigned>(y.rows), kThreads, 0, context.stream()>>>(Coded(table), ids, y,
                                                                                             static_cast<int>(y.cols));
  });
  check_launch("embed");
}

}  // namespace molt::cuda
