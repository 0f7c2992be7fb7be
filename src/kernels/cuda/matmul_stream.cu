// Products of up to 16 rows with weights in bfloat16 on compute capability 9.0: bound by reading the weights once.
//
// A block a multiprocessor takes its share of the outputs, to a row as many as every other. One of its warps fetches
// weights (weight_ring.cuh), the first of them while the kernel before still runs, for they depend on nothing; the
// others multiply on the tensor cores, each its part of the inputs (step_tiles.cuh).
//
// A norm before the product needs no kernel of its own where rows are few: each block rounds x times the norm's
// weights, and scales what comes out.
#include "kernels/cuda/matmul_stream.h"

#include <algorithm>

#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/step_tiles.cuh"

namespace molt::cuda {
namespace {

constexpr int kThreads = kStreamThreads + 32;  // with the warp that fetches
constexpr int kFewRows = 8;
constexpr int kRingBytes = 164 * 1024, kTileBytes = 40 * 1024;
constexpr int kShortPieces = 6, kLongPieces = 11;
constexpr int kMostInputs = kLongPieces * kStreamPiece * kStreamWarps;
constexpr int kMostNormRows = 4;
constexpr int kNormUnits = 3;  // of four columns, that a thread takes

struct Room {
  alignas(128) __nv_bfloat16 weights[kRingBytes / 2];
  RingBarriers barriers;
  union {
    TileParts parts;
    __nv_bfloat16 x[sizeof(TileParts) / 2];  // before there are parts
  };
  float squares[kMostNormRows][kStreamWarps];
  float scales[kStreamRows];
};

struct Product {
  int rows;
  const __nv_bfloat16* x = nullptr;  // [rows, inputs]; or
  NormedRows norm{{nullptr, 0}, nullptr, 0};
  const __nv_bfloat16* w = nullptr;  // [outputs, inputs]
  RingShape shape{};
};

/// Where a block's results go.
struct ShareOutput {
  const StepOutput& out;
  const BlockShare& share;
  bool scaled;
  const float* scales;  // of the rows, there when the first products are

  __device__ float fetch(int t, int n) const { return out.before(t, share.first + n); }
  __device__ void put(int t, int n, float product, float before) const {
    out.y.row(t)[share.first + n] = product * (scaled ? scales[t] : 1.0F) + before;
  }
};

/// The rows of a norm, rounded but for its scale, to shared memory; and the scales, when the threads have met.
class NormLoad {
 public:
  __device__ NormLoad(const Product& product, Room& room) : product_(product), room_(room) {
    for_units([&](int u, int column) { weights_[u] = *reinterpret_cast<const float4*>(product.norm.weight + column); });
  }

  __device__ void load() const {
    float4 values[kMostNormRows][kNormUnits];
#pragma unroll
    for (int t = 0; t < kMostNormRows; ++t) {
      for_units([&](int u, int column) {
        values[t][u] = {0, 0, 0, 0};
        if (t < product_.rows) values[t][u] = *reinterpret_cast<const float4*>(product_.norm.x.row(t) + column);
      });
    }
#pragma unroll
    for (int t = 0; t < kMostNormRows; ++t) {
      if (t >= product_.rows) break;
      float sum = 0;
      for_units([&](int u, int column) {
        const float4 v = values[t][u], w = weights_[u];
        sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        const uint2 pairs{Narrow::pack(v.x * w.x, v.y * w.y), Narrow::pack(v.z * w.z, v.w * w.w)};
        *reinterpret_cast<uint2*>(room_.x + t * product_.shape.inputs + column) = pairs;
      });
      sum = warp_sum(sum);
      if (thread_ % 32 == 0) room_.squares[t][thread_ / 32] = sum;
    }
  }

  __device__ void put_scales() const {
    const int t = thread_ / 32, lane = thread_ % 32;
    if (t >= product_.rows) return;
    const float sum = warp_sum(lane < kStreamWarps ? room_.squares[t][lane] : 0.0F);
    if (lane == 0) room_.scales[t] = 1.0F / sqrtf(sum / static_cast<float>(product_.shape.inputs) + product_.norm.eps);
  }

 private:
  template <class Body>
  __device__ void for_units(Body body) const {
#pragma unroll
    for (int u = 0; u < kNormUnits; ++u) {
      const int column = (thread_ + u * kStreamThreads) * 4;
      if (column < product_.shape.inputs) body(u, column);
    }
  }

  const Product& product_;
  Room& room_;
  const int thread_ = static_cast<int>(threadIdx.x);
  float4 weights_[kNormUnits];
};

/// Of a norm whose sums of squares are there.
__device__ void put_scales(const StepOutput& out, int rows, float* scales) {
  if (out.squares == nullptr) return;
  for (int t = static_cast<int>(threadIdx.x) / 32; t < rows; t += kStreamWarps) {
    const float scale = out.scale(t);
    if (threadIdx.x % 32 == 0) scales[t] = scale;
  }
}

/// The rows as the kernel before left them.
template <class Inputs, bool kNorm>
__device__ Inputs load(const Product& product, const StepOutput& out, Room& room) {
  const int rows = product.rows, inputs = product.shape.inputs;
  if constexpr (kNorm) {
    const NormLoad norm(product, room);
    wait_for_previous();
    norm.load();
    meet_stream_threads();
    norm.put_scales();
    const Inputs x(room.x, rows, inputs);
    meet_stream_threads();
    return x;
  } else {
    wait_for_previous();
    const Inputs x(product.x, rows, inputs);
    put_scales(out, rows, room.scales);
    return x;
  }
}

/// The warp that fetches; then it moves states on.
__device__ void fetch(const Product& product, const Ring& ring, const BlockShare& share, const StateShift& shift) {
  RingWriter(ring).put(product.w + static_cast<std::int64_t>(share.first) * product.shape.inputs, share.count);
  wait_for_previous();
  shift.run(threadIdx.x % 32, 32);
}

/// Registers a thread without spilling, few enough, where it can be, for blocks of the next kernel to stand beside it.
template <bool kMany, int kPieces>
constexpr int kRegisters = kMany ? (kPieces == kLongPieces ? 128 : 88) : (kPieces == kLongPieces ? 96 : 80);

/// kMany: more than 8 rows. kNorm: x is that of a norm.
template <bool kMany, int kPieces, bool kNorm>
__global__ void __maxnreg__((kRegisters<kMany, kPieces>))
    stream_kernel(const __grid_constant__ Product product, const __grid_constant__ StepOutput out,
                  const __grid_constant__ StateShift shift) {
  extern __shared__ __align__(128) unsigned char memory[];
  Room& room = *reinterpret_cast<Room*>(memory);
  const BlockShare share(out.outputs);
  let_next_start();
  room.barriers.make(product.shape, kStreamWarps);
  // What is read beside the weights is asked for first: behind them it would come late.
  if (out.adds) {
    constexpr int kLine = 32;
    const int t = static_cast<int>(threadIdx.x) / 2;
    if (t < product.rows) prefetch_line(out.y.row(t) + share.first + threadIdx.x % 2 * min(kLine, share.count - 1));
  }
  __syncthreads();
  const Ring ring{product.shape, room.barriers, room.weights};
  if (threadIdx.x >= kStreamThreads) return fetch(product, ring, share, shift);
  const auto x = load<StepInputs<kMany, kPieces>, kNorm>(product, out, room);
  RingReader weights(ring);
  multiply_share(x, share.count, weights, room.parts,
                 ShareOutput{out, share, kNorm || out.squares != nullptr, room.scales});
}

template <bool kMany, bool kNorm>
void launch(const Context& context, Product product, const PackedRows& w, std::int64_t first, const StepOutput& out,
            const StateShift& shift) {
  const int inputs = static_cast<int>(w.stride());
  const auto kernel = inputs <= kShortPieces * kStreamPiece * kStreamWarps ? stream_kernel<kMany, kShortPieces, kNorm>
                                                                           : stream_kernel<kMany, kLongPieces, kNorm>;
  product.w = reinterpret_cast<const __nv_bfloat16*>(w.row(first));
  product.shape = RingShape::of(inputs, kStreamOutputs, kTileBytes, kRingBytes);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Room)),
        "shared memory of a product");
  stand_beside_products(kernel);
  const unsigned grid = static_cast<unsigned>(std::min(out.outputs, context.processors()));
  launch_early(context, "matmul of a few rows", kernel, grid, kThreads, sizeof(Room), product, out, shift);
}

}  // namespace

bool can_stream(const Context& context, std::int64_t rows, const PackedRows& w) {
  return context.is_hopper() && rows <= kStreamRows && w.stored() == DType::bf16 && w.stride() % kStreamPiece == 0 &&
         w.stride() <= kMostInputs;
}

void stream_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                    std::int64_t first, const StepOutput& out, const StateShift& shift) {
  const Product product{.rows = static_cast<int>(rows), .x = x};
  if (rows > kFewRows) return launch<true, false>(context, product, w, first, out, shift);
  launch<false, false>(context, product, w, first, out, shift);
}

bool can_stream_norm(const Context& context, std::int64_t rows, const PackedRows& w) {
  const std::int64_t inputs = w.in_features();
  return can_stream(context, rows, w) && w.stride() == inputs && rows <= kMostNormRows &&
         inputs <= 4 * kNormUnits * kStreamThreads && rows * inputs * 2 <= static_cast<int>(sizeof(TileParts));
}

void stream_product(const Context& context, const NormedRows& norm, std::int64_t rows, const PackedRows& w,
                    const StepOutput& out) {
  launch<false, true>(context, {.rows = static_cast<int>(rows), .norm = norm}, w, 0, out, {});
}

}  // namespace molt::cuda
