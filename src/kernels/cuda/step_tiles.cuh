// Products of a step's rows, up to 16 of them, with tiles of weights in shared memory (weight_ring.cuh), by 15 warps:
// with the one that fetches they are 16.
//
// Inputs go to warps 32 at a time, by turns. Both operands come as they lie, 16 bytes a thread: which of the 32 the
// tensor cores take for which makes no difference to a sum, as long as it is the same on both sides. Up to 8 rows lie
// in shared memory (FewInputs), which leaves registers to other kernels' blocks; more of them do in registers
// (ManyInputs).
#pragma once

#include "kernels/cuda/tensor_cores.cuh"
#include "kernels/cuda/weight_ring.cuh"

namespace molt::cuda {

constexpr int kStreamWarps = 15, kStreamThreads = 32 * kStreamWarps;
constexpr int kStreamRows = 16;
constexpr int kStreamOutputs = 8;  // of a tile, at the most
constexpr int kStreamPiece = 32;   // inputs that a warp takes at a time

/// What the block takes of so many outputs: as much as every other, or one more.
struct BlockShare {
  int first, count;

  __device__ explicit BlockShare(int all) {
    const auto until = [&](unsigned block) {
      return static_cast<int>(static_cast<std::int64_t>(all) * block / static_cast<int>(gridDim.x));
    };
    first = until(blockIdx.x);
    count = until(blockIdx.x + 1) - first;
  }
};

/// The threads of the warps that multiply wait for each other.
__device__ inline void meet_stream_threads() {
  asm volatile("bar.sync 1, %0;" ::"n"(kStreamThreads) : "memory");
}

/// A warp's pieces of the rows, kPieces at the most, in registers. Unless kMany up to 8 rows: then the outputs are the
/// products' rows, and those of the tensor cores which stay free cost nothing, while they would take registers beside
/// x.
template <bool kMany, int kPieces>
class StepInputs {
 public:
  /// x [rows, inputs] without gaps, aligned to 16 bytes.
  __device__ StepInputs(const __nv_bfloat16* x, int rows, int inputs) : rows_(rows) {
    const Lane lane;
    const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int k = (p * kStreamWarps + warp) * kStreamPiece + 8 * lane.q;
      const auto row = [&](int t) {
        return k < inputs && t < rows ? *reinterpret_cast<const uint4*>(x + t * inputs + k) : uint4{};
      };
      const uint4 low = row(lane.g);
      if constexpr (kMany) {
        const uint4 high = row(lane.g + 8);
        pieces_[p][0] = {low.x, high.x, low.y, high.y};
        pieces_[p][1] = {low.z, high.z, low.w, high.w};
      } else {
        pieces_[p][0] = {low.x, low.z, low.y, low.w};
      }
    }
  }

  __device__ int rows() const {
    return rows_;
  }

  /// The warp's part of the products with a tile, whose rows beyond the last mean nothing: parts [rows,
  /// kStreamOutputs].
  __device__ void multiply(const __nv_bfloat16* tile, const RingShape& shape, float* parts) const {
    const Lane lane;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const __nv_bfloat16* const own =
        tile + (lane.g & (shape.tile - 1)) * shape.stride() + warp * kStreamPiece + 8 * lane.q;
    const int pieces = (shape.inputs / kStreamPiece - warp + kStreamWarps - 1) / kStreamWarps;
    constexpr int kChains = kMany ? 1 : 2;
    float sums[kChains][2][4] = {};
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if (p >= pieces) break;
      const uint4 w = *reinterpret_cast<const uint4*>(own + p * kStreamWarps * kStreamPiece);
      add_products(sums[p % kChains], pieces_[p], w);
    }
#pragma unroll
    for (int e = 0; e < (kMany ? 4 : 2); ++e) {
      const int t = kMany ? lane.g + e / 2 * 8 : 2 * lane.q + e, n = kMany ? 2 * lane.q + e % 2 : lane.g;
      float sum = 0;
#pragma unroll
      for (const auto& chain : sums) sum += chain[0][e] + chain[1][kMany ? e : e + 2];
      if (t < rows_) parts[t * kStreamOutputs + n] = sum;
    }
  }

 private:
  /// A piece of up to 16 rows times that of 8 outputs; the sum is that of both.
  static __device__ void add_products(float (&sums)[2][4], const uint4 (&x)[2], const uint4& w) {
    Narrow::add_product(sums[0], {{x[0].x, x[0].y, x[0].z, x[0].w}}, {{w.x, w.y}});
    Narrow::add_product(sums[1], {{x[1].x, x[1].y, x[1].z, x[1].w}}, {{w.z, w.w}});
  }
  /// Of up to 8 rows. w's four pairs of inputs are taken as they lie, for those of 16 outputs: of the first sum the
  /// upper half counts, where x's first and third pair meet w's, of the second the lower half.
  static __device__ void add_products(float (&sums)[2][4], const uint4 (&x)[1], const uint4& w) {
    Narrow::add_product(sums[0], {{w.x, w.y, w.z, w.w}}, {{x[0].x, x[0].y}});
    Narrow::add_product(sums[1], {{w.x, w.y, w.z, w.w}}, {{x[0].z, x[0].w}});
  }

  uint4 pieces_[kPieces][kMany ? 2 : 1];
  int rows_;
};

/// Where the warps' sums of some tiles meet, while those of the next ones come.
constexpr int kPartFloats = 4096;
using TileParts = float[2][kPartFloats];

/// Products of the rows with a block's share of the outputs, as its ring brings them. A warp takes tile after tile and
/// waits for the others only where there is no room for more parts. `output` of each row t and output n of the share
/// is one thread's: output.fetch(t, n) brings what it needs besides, before the products, output.put(t, n, product,
/// that) takes the result.
template <class Inputs, class Output>
__device__ void multiply_share(const Inputs& x, int count, RingReader& weights, TileParts& parts,
                               const Output& output) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int tile = weights.shape().tile, tiles = (count + tile - 1) / tile;
  const int part = x.rows() * kStreamOutputs, most = kPartFloats / (kStreamWarps * part);
  const int own_tile = thread / part, t = thread % part / kStreamOutputs, column = thread % kStreamOutputs;
  int round = 0;
  for (int first = 0; first < tiles; first += most, round ^= 1) {
    const int here = min(most, tiles - first), n = (first + own_tile) * tile + column;
    const bool puts = own_tile < here && column < tile && n < count;
    const float besides = puts ? output.fetch(t, n) : 0.0F;
    for (int i = 0; i < here; ++i) {
      x.multiply(weights.take(), weights.shape(), parts[round] + (i * kStreamWarps + warp) * part);
      weights.give_back();
    }
    meet_stream_threads();
    if (!puts) continue;
    const float* const own = parts[round] + own_tile * kStreamWarps * part + t * kStreamOutputs + column;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kStreamWarps; ++w) sum += own[w * part];
    output.put(t, n, sum, besides);
  }
}

}  // namespace molt::cuda
