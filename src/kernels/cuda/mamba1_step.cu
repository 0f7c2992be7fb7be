// A Mamba-1 layer when each sequence takes one token, in six kernels: the norm; the input's product; the convolution,
// which moves its states on; x_proj's product; dt_proj's product, softplus, the scan's step and the gate; the output's
// product, which adds to the stream. With coded weights dt_proj's product takes two of its own.
#include "kernels/cuda/mamba1_step.h"

#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/scan_cut.h"
#include "kernels/cuda/step_product.h"
#include "kernels/cuda/stored_state.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace molt::cuda {
namespace {

using Element = __nv_bfloat16;

constexpr int kTaps = 4;
constexpr int kConvThreads = 128;

struct StepConv {
  Rows<const float> x;
  const float* weight;  // [kTaps, channels], rows w_stride apart
  std::int64_t w_stride;
  const float* bias;  // or null
  Element* y;         // [S, channels]
  int channels;
  float* states[kMostStepSequences];
};

/// A thread is a channel of a sequence.
__global__ void __launch_bounds__(kConvThreads) step_conv_kernel(const __grid_constant__ StepConv conv) {
  let_next_start();
  const int c = static_cast<int>(blockIdx.x) * kConvThreads + static_cast<int>(threadIdx.x);
  const int s = static_cast<int>(blockIdx.y);
  if (c >= conv.channels) return;
  float weights[kTaps], inputs[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) weights[k] = conv.weight[k * conv.w_stride + c];
  float sum = conv.bias == nullptr ? 0.0F : conv.bias[c];
  float* const state = conv.states[s] + c;
  wait_for_previous();
#pragma unroll
  for (int k = 0; k + 1 < kTaps; ++k) inputs[k] = state[static_cast<std::int64_t>(k) * conv.channels];
  inputs[kTaps - 1] = conv.x.row(s)[c];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) sum += weights[k] * inputs[k];
  conv.y[static_cast<std::int64_t>(s) * conv.channels + c] = __float2bfloat16_rn(silu(sum));
#pragma unroll
  for (int k = 0; k + 1 < kTaps; ++k) state[static_cast<std::int64_t>(k) * conv.channels] = inputs[k + 1];
}

constexpr int kThreads = 256;
constexpr int kColumns = 32;                                // channels a block
constexpr int kSequences = 4;                               // likewise
constexpr int kParts = kThreads / (kColumns * kSequences);  // of a channel's states
constexpr int kOwn = static_cast<int>(kMostScanStates) / kParts;
static_assert(kParts * kOwn == kMostScanStates && kColumns == 32);

// dt_proj's product: warps take a tile of 16 channels, and of its inputs a slice, 32 of them at a time.
constexpr int kWarps = kThreads / 32;
constexpr int kTiles = kColumns / 16;
constexpr int kSlices = kWarps / kTiles;
constexpr int kInputs = 32;
static_assert(kWarps == 2 * kSequences);  // load_low()

constexpr float kLog2e = 1.4426950408889634F;

/// What the step's kernel takes.
struct Step {
  Rows<const float> xz;
  const Element* x;           // [S, inner], convolved
  Rows<const float> low;      // [S, rank + 2 * states]: dt before its product, B, C
  Rows<const float> dt;       // [S, inner], the product; or null: it is made here
  const Element* dt_weights;  // [inner, rank], unless dt is given
  const float* dt_bias;
  Rows<const float> A;  // [states, inner]
  const float* D;
  Element* gated;  // [S, inner]
  int sequences, inner, rank, states;
  bool norms;
  float norm_eps;
  void* ssm_states[kMostStepSequences];  // float or bf16
  std::uint32_t keys[kMostStepSequences];
  const std::uint32_t* keys_there;  // instead of these, or null
};

/// A block's share of a layer.
struct Room {
  // dt before its product and the weights of that, zeros behind; rows are padded against bank conflicts.
  alignas(16) Element dt_low[kSequences][kMostStepRank + 8], dt_weights[kColumns][kMostStepRank + 8];
  float bc[kSequences][2][kMostScanStates];
  float dt[kSlices][kSequences][kColumns];  // to be added up
  float sums[kParts][kSequences][kColumns];
};

/// What a part of a row is multiplied by: the squares of its `columns` are added up over kLanes lanes.
template <int kLanes>
__device__ inline float norm_scale(const Step& step, float squares, int columns) {
  if (!step.norms) return 1.0F;
#pragma unroll
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(kAllLanes, squares, lanes);
  return 1.0F / sqrtf(squares / static_cast<float>(columns) + step.norm_eps);
}

/// dt before its product, of a sequence, in bfloat16, by a warp.
__device__ inline void load_dt(const Step& step, int s, Element* to, int columns) {
  constexpr int kEach = static_cast<int>(kMostStepRank) / 32;
  const float* const row = step.low.row(s);
  float v[kEach], squares = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int k = static_cast<int>(threadIdx.x) % 32 + 32 * i;
    v[i] = k < step.rank ? row[k] : 0.0F;
    squares += v[i] * v[i];
  }
  const float scale = norm_scale<32>(step, squares, step.rank);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int k = static_cast<int>(threadIdx.x) % 32 + 32 * i;
    if (k < columns) to[k] = __float2bfloat16_rn(v[i] * scale);
  }
}

/// B and C of a sequence, each by half a warp.
__device__ inline void load_bc(const Step& step, int s, float (&to)[2][kMostScanStates]) {
  constexpr int kHalf = static_cast<int>(kMostScanStates);
  static_assert(kHalf == 16);
  const int part = static_cast<int>(threadIdx.x) % 32 / kHalf, n = static_cast<int>(threadIdx.x) % kHalf;
  const float v = n < step.states ? step.low.row(s)[step.rank + part * step.states + n] : 0.0F;
  to[part][n] = v * norm_scale<kHalf>(step, v * v, step.states);
}

/// Each of a block's warps takes one or the other of a sequence.
template <bool kGiven>
__device__ inline void load_low(const Step& step, int s0, int count, Room& room) {
  const int warp = static_cast<int>(threadIdx.x) / 32, q = warp % kSequences;
  if (q >= count) return;
  if (warp < kSequences) {
    load_bc(step, s0 + q, room.bc[q]);
  } else if (!kGiven) {
    load_dt(step, s0 + q, room.dt_low[q], static_cast<int>(kMostStepRank));
  }
}

/// Starts to bring dt_proj's weights. They depend on no other kernel.
__device__ inline void fetch_dt_weights(const Step& step, int c0, Room& room) {
  constexpr int kEach = kThreads / kColumns;  // threads a channel
  const int row = static_cast<int>(threadIdx.x) / kEach, c = c0 + row;
  for (int k = static_cast<int>(threadIdx.x) % kEach * 8; k < kMostStepRank; k += 8 * kEach) {
    const bool there = c < step.inner && k < step.rank;
    const std::int64_t place = there ? static_cast<std::int64_t>(c) * step.rank + k : 0;
    copy_unit(&room.dt_weights[row][k], step.dt_weights + place, there);
  }
}

/// A warp's part of dt of all sequences; behind the last of them whatever there is. Weights are the tensor cores' left
/// operand; inputs are taken in the order in which they lie (matmul_tiles.cu).
__device__ inline void multiply_dt(int rank, Room& room) {
  const Lane lane;
  const int warp = static_cast<int>(threadIdx.x) / 32, slice = warp / kTiles, row = warp % kTiles * 16 + lane.g;
  const auto load = [](const Element* from) { return *reinterpret_cast<const uint4*>(from); };
  float sums[4] = {};
  for (int first = slice * kInputs; first < rank; first += kSlices * kInputs) {
    const int k = first + 8 * lane.q;
    const uint4 x = load(&room.dt_low[min(lane.g, kSequences - 1)][k]);
    const uint4 top = load(&room.dt_weights[row][k]), bottom = load(&room.dt_weights[row + 8][k]);
    Narrow::add_product(sums, {{top.x, bottom.x, top.y, bottom.y}}, {{x.x, x.y}});
    Narrow::add_product(sums, {{top.z, bottom.z, top.w, bottom.w}}, {{x.z, x.w}});
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int q = 2 * lane.q + e % 2;
    if (q < kSequences) room.dt[slice][q][row + e / 2 * 8] = sums[e];
  }
}

/// kGiven: Step::dt. A thread takes kOwn states of a channel of a sequence.
template <bool kGiven, class T>
__global__ void __launch_bounds__(kThreads, 5) step_kernel(const __grid_constant__ Step step) {
  __shared__ Room room;
  let_next_start();
  const int c0 = static_cast<int>(blockIdx.x) * kColumns, s0 = static_cast<int>(blockIdx.y) * kSequences;
  const int count = min(kSequences, step.sequences - s0);
  const int lane = static_cast<int>(threadIdx.x) % kColumns, warp = static_cast<int>(threadIdx.x) / kColumns;
  const int c = c0 + lane, q = warp / kParts, part = warp % kParts, s = min(s0 + q, step.sequences - 1);
  const bool mine = c < step.inner && q < count;
  const auto place = [&](int i) { return static_cast<std::int64_t>(part * kOwn + i) * step.inner + c; };
  const auto is_there = [&](int i) { return mine && part * kOwn + i < step.states; };
  const StoredState<T> state{static_cast<T*>(step.ssm_states[s]),
                             step.keys_there != nullptr ? step.keys_there[s] : step.keys[s]};
  // The state comes into the cache; what it is, is known only when the kernel before has ended.
  if (lane < kOwn && q < count && part * kOwn + lane < step.states) {
    prefetch_line(state.data + static_cast<std::int64_t>(part * kOwn + lane) * step.inner + c0);
  }
  float rates[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    rates[i] = is_there(i) ? step.A.row(part * kOwn + i)[c] * kLog2e : 0.0F;
  }
  const float bias = mine ? step.dt_bias[c] : 0.0F, skip = mine ? step.D[c] : 0.0F;
  float raw = bias, x = 0, z = 0, H[kOwn];
  const auto load_own = [&] {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) H[i] = is_there(i) ? state.get(place(i)) : 0.0F;
    if (!mine) return;
    x = __bfloat162float(step.x[static_cast<std::int64_t>(s) * step.inner + c]);
    z = step.xz.row(s)[step.inner + c];
  };
  if constexpr (kGiven) {
    wait_for_previous();
    load_own();
    load_low<true>(step, s0, count, room);
    if (mine) raw += step.dt.row(s)[c];
    __syncthreads();
  } else {
    fetch_dt_weights(step, c0, room);
    wait_for_previous();
    load_own();
    load_low<false>(step, s0, count, room);
    wait_for_copies();
    __syncthreads();
    multiply_dt(step.rank, room);
    __syncthreads();
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) raw += room.dt[slice][q][lane];
  }
  const float dt = softplus_of(raw), input = dt * x;
  const float* const B = room.bc[q][0] + part * kOwn;
  const float* const C = room.bc[q][1] + part * kOwn;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    if (!is_there(i)) continue;
    H[i] = power_of_2(dt * rates[i]) * H[i] + input * B[i];
    sum += C[i] * H[i];
    state.set(place(i), static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(part * kOwn + i), H[i]);
  }
  room.sums[part][q][lane] = sum;
  __syncthreads();
  if (part != 0 || !mine) return;
  float y = skip * x;
#pragma unroll
  for (int p = 0; p < kParts; ++p) y += room.sums[p][q][lane];
  step.gated[static_cast<std::int64_t>(s) * step.inner + c] = __float2bfloat16_rn(y * silu(z));
}

/// dt before its product, for a product that is a kernel of its own: a warp a sequence.
__global__ void __launch_bounds__(32) round_dt_kernel(const __grid_constant__ Step step, Element* to) {
  begin();
  const int s = static_cast<int>(blockIdx.x);
  load_dt(step, s, to + s * step.rank, step.rank);
}

void convolve(const Context& context, const Mamba1Layer& layer, std::span<float* const> states,
              const Mamba1StepRoom& room) {
  const std::int64_t inner = layer.A.cols;
  StepConv conv{.x = {room.xz.data, room.xz.stride},
                .weight = layer.conv_weight.data,
                .w_stride = layer.conv_weight.stride,
                .bias = layer.conv_bias,
                .y = reinterpret_cast<Element*>(room.x),
                .channels = static_cast<int>(inner),
                .states = {}};
  for (std::size_t s = 0; s < states.size(); ++s) conv.states[s] = states[s];
  stand_beside_products(step_conv_kernel);
  launch_early(context, "convolution of a step", step_conv_kernel,
               dim3(blocks_for(inner, kConvThreads), static_cast<unsigned>(states.size())), kConvThreads, 0, conv);
}

Step step_of(const Mamba1Layer& layer, const ScanRows& rows, const Mamba1StepRoom& room) {
  const bool given = CodedRows::of(*layer.dt_proj) != nullptr;
  Step step{.xz = {room.xz.data, room.xz.stride},
            .x = reinterpret_cast<const Element*>(room.x),
            .low = {room.low.data, room.low.stride},
            .dt = {room.dt.data, room.dt.stride},
            .dt_weights = given ? nullptr : reinterpret_cast<const Element*>(PackedRows::of(*layer.dt_proj).row(0)),
            .dt_bias = layer.dt_bias,
            .A = layer.A,
            .D = layer.D,
            .gated = reinterpret_cast<Element*>(room.gated),
            .sequences = static_cast<int>(rows.sequences()),
            .inner = static_cast<int>(layer.A.cols),
            .rank = static_cast<int>(layer.dt_proj->in_features()),
            .states = static_cast<int>(layer.A.rows),
            .norms = layer.norm_bcdt,
            .norm_eps = layer.bcdt_norm_eps,
            .ssm_states = {},
            .keys = {},
            .keys_there = rows.keys};
  for (std::size_t s = 0; s < rows.sequences(); ++s) {
    step.ssm_states[s] = rows.rounded.empty() ? static_cast<void*>(rows.states[s]) : rows.rounded[s].data;
    step.keys[s] = rows.rounded.empty() ? 0 : rows.rounded[s].key;
  }
  return step;
}

void launch(const Context& context, const Step& step, bool given, bool rounded) {
  const dim3 grid(blocks_for(step.inner, kColumns), blocks_for(step.sequences, kSequences));
  const auto kernel = given ? (rounded ? step_kernel<true, Element> : step_kernel<true, float>)
                            : (rounded ? step_kernel<false, Element> : step_kernel<false, float>);
  stand_beside_products(kernel);
  launch_early(context, "a step of a layer", kernel, grid, kThreads, 0, step);
}

std::byte* narrow_tile(Arena& arena, std::int64_t columns) {
  return reinterpret_cast<std::byte*>(arena.floats(kTileRows * columns / 2));
}

}  // namespace

Mamba1StepRoom::Mamba1StepRoom(const Mamba1Layer& layer, std::int64_t rows, Arena& arena)
    : normed(narrow_tile(arena, layer.in_proj->in_features())),
      x(narrow_tile(arena, layer.A.cols)),
      gated(narrow_tile(arena, layer.A.cols)),
      dt_low(narrow_tile(arena, layer.dt_proj->in_features())),
      xz(arena.matrix(rows, 2 * layer.A.cols)),
      low(arena.matrix(rows, layer.x_proj->out_features())),
      dt(arena.matrix(rows, layer.A.cols)) {}

void mamba1_step(const Context& context, const Mamba1Layer& layer, const LayerStream& stream,
                 std::span<float* const> conv_states, const ScanRows& rows, const Mamba1StepRoom& room) {
  const std::int64_t sequences = rows.offsets.back(), model = stream.residual.cols;
  const auto product = [&](const std::byte* x, const PackedMatrix& w, const StepOutput& out) {
    step_product(context, reinterpret_cast<const Element*>(x), sequences, w, out);
  };
  const auto outputs_of = [](const PackedMatrix& w) { return static_cast<int>(w.out_features()); };
  step_product(context, stream, layer.norm, layer.norm_eps, reinterpret_cast<Element*>(room.normed), *layer.in_proj,
               {.y = room.xz, .outputs = outputs_of(*layer.in_proj)});
  convolve(context, layer, conv_states, room);
  product(room.x, *layer.x_proj, {.y = room.low, .outputs = outputs_of(*layer.x_proj)});
  const Step step = step_of(layer, rows, room);
  const bool given = step.dt_weights == nullptr;
  if (given) {
    stand_beside_products(round_dt_kernel);
    launch_early(context, "rounding the input of a product", round_dt_kernel, static_cast<unsigned>(sequences), 32, 0,
                 step, reinterpret_cast<Element*>(room.dt_low));
    product(room.dt_low, *layer.dt_proj, {.y = room.dt, .outputs = outputs_of(*layer.dt_proj)});
  }
  launch(context, step, given, !rows.rounded.empty());
  product(room.gated, *layer.out_proj,
          {.y = stream.leaves_h ? stream.h : stream.residual,
           .outputs = static_cast<int>(model),
           .adds = !stream.leaves_h});
}

}  // namespace molt::cuda
