// A Mamba-1 layer when each sequence takes one token, in six kernels: the norm; the input's product; the convolution,
// which moves its states on; x_proj's product; dt_proj's product, softplus, the scan's step and the gate; the output's
// product, which adds to the stream. With coded weights dt_proj's product takes two of its own.
#include "kernels/cuda/mamba1_step.h"

#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/scan_cut.h"
#include "kernels/cuda/step_product.h"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {
namespace {

using Narrow = __nv_bfloat16;

constexpr int kTaps = 4;
constexpr int kConvThreads = 128;

struct StepConv {
  Rows<const float> x;
  const float* weight;  // [kTaps, channels], rows w_stride apart
  std::int64_t w_stride;
  const float* bias;  // or null
  Narrow* y;          // [S, channels]
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
constexpr int kLanes = kThreads / kColumns;  // that share a channel's product with dt_proj
constexpr int kPack = 8;                     // weights of 16 bytes
constexpr int kPacks = static_cast<int>(kMostStepRank) / (kLanes * kPack);
constexpr int kMostLow = static_cast<int>(kMostStepRank + 2 * kMostScanStates);
constexpr float kLog2e = 1.4426950408889634F;

/// What the step's kernel takes.
struct Step {
  Rows<const float> xz;
  const Narrow* x;           // [S, inner], convolved
  Rows<const float> low;     // [S, rank + 2 * states]: dt before its product, B, C
  Rows<const float> dt;      // [S, inner], the product; or null: it is made here
  const Narrow* dt_weights;  // [inner, rank], unless dt is given
  const float* dt_bias;
  const float* A;  // [states, inner], rows A_stride apart
  std::int64_t A_stride;
  const float* D;
  Narrow* gated;  // [S, inner]
  int sequences, inner, rank, states;
  bool norms;
  float norm_eps;
  void* ssm_states[kMostStepSequences];  // float or bf16
  std::uint32_t keys[kMostStepSequences];
  const std::uint32_t* keys_there;  // instead of these, or null
};

/// The three parts of a row of Step::low: dt, B, C.
struct LowPart {
  int begin, columns;
  __device__ LowPart(const Step& step, int part)
      : begin(part == 0 ? 0 : step.rank + (part - 1) * step.states), columns(part == 0 ? step.rank : step.states) {}
};

/// What a part of a row is multiplied by, for a warp.
__device__ inline float norm_scale(const Step& step, const float* row, int part) {
  const LowPart own(step, part);
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < own.columns; i += 32) {
    const float v = row[own.begin + i];
    squares += v * v;
  }
  return 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(own.columns) + step.norm_eps);
}

/// A block's share of a layer.
struct Room {
  alignas(16) float low[kSequences][kMostLow];
  float dt[kSequences][kColumns];
  float sums[kParts][kSequences][kColumns];
};

__device__ inline void load_low(const Step& step, int s0, int count, Room& room) {
  const int columns = step.rank + 2 * step.states;
  for (int q = 0; q < count; ++q) {
    for (int i = static_cast<int>(threadIdx.x); i < columns; i += kThreads) room.low[q][i] = step.low.row(s0 + q)[i];
  }
  __syncthreads();
  if (!step.norms) return;
  for (int i = static_cast<int>(threadIdx.x) / 32; i < 3 * count; i += kThreads / 32) {
    float* const row = room.low[i / 3];
    const float scale = norm_scale(step, row, i % 3);
    const LowPart own(step, i % 3);
    for (int k = static_cast<int>(threadIdx.x) % 32; k < own.columns; k += 32) row[own.begin + k] *= scale;
  }
  __syncthreads();
}

/// dt_proj's weights of a block's channels, kLanes threads a channel.
class DtWeights {
 public:
  /// They depend on no other kernel.
  __device__ DtWeights(const Step& step, int c0) {
    const int c = min(c0 + static_cast<int>(threadIdx.x) / kLanes, step.inner - 1);
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      packs_[i] = {0, 0, 0, 0};
      if (column(i) >= step.rank) continue;
      packs_[i] =
          *reinterpret_cast<const uint4*>(step.dt_weights + static_cast<std::int64_t>(c) * step.rank + column(i));
    }
  }

  __device__ void multiply(int rank, Room& room) const {
    float sums[kSequences] = {};
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (column(i) >= rank) break;
      const unsigned words[4] = {packs_[i].x, packs_[i].y, packs_[i].z, packs_[i].w};
#pragma unroll
      for (int q = 0; q < kSequences; ++q) {
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          const float weight = __uint_as_float(k % 2 == 0 ? words[k / 2] << 16 : words[k / 2] & 0xffff0000U);
          sums[q] += weight * room.low[q][column(i) + k];
        }
      }
    }
#pragma unroll
    for (int q = 0; q < kSequences; ++q) {
#pragma unroll
      for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sums[q] += __shfl_xor_sync(kAllLanes, sums[q], lanes);
      if (threadIdx.x % kLanes == 0) room.dt[q][threadIdx.x / kLanes] = sums[q];
    }
  }

 private:
  static __device__ int column(int i) {
    return (static_cast<int>(threadIdx.x) % kLanes + i * kLanes) * kPack;
  }

  uint4 packs_[kPacks];
};

/// kGiven: Step::dt. A thread takes kOwn states of a channel of a sequence.
template <bool kGiven, class T>
__global__ void __launch_bounds__(kThreads, 4) step_kernel(const __grid_constant__ Step step) {
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
    asm volatile(
        "prefetch.global.L2 [%0];" ::"l"(state.data + static_cast<std::int64_t>(part * kOwn + lane) * step.inner + c0));
  }
  float rates[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    rates[i] = is_there(i) ? step.A[(part * kOwn + i) * step.A_stride + c] * kLog2e : 0.0F;
  }
  const float bias = mine ? step.dt_bias[c] : 0.0F, skip = mine ? step.D[c] : 0.0F;
  if constexpr (kGiven) {
    wait_for_previous();
    load_low(step, s0, count, room);
  } else {
    const DtWeights weights(step, c0);
    wait_for_previous();
    load_low(step, s0, count, room);
    weights.multiply(step.rank, room);
  }
  float H[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) H[i] = is_there(i) ? state.get(place(i)) : 0.0F;
  const float x = mine ? __bfloat162float(step.x[static_cast<std::int64_t>(s) * step.inner + c]) : 0.0F;
  const float z = mine ? step.xz.row(s)[step.inner + c] : 0.0F;
  float raw = bias;
  if constexpr (kGiven) {
    raw += mine ? step.dt.row(s)[c] : 0.0F;
  } else {
    __syncthreads();
    raw += room.dt[q][lane];
  }
  const float dt = softplus_of(raw), input = dt * x;
  const float* const B = room.low[q] + step.rank + part * kOwn;
  const float* const C = B + step.states;
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

/// dt before its product, in bfloat16: a warp a sequence.
__global__ void __launch_bounds__(32) round_low_kernel(const __grid_constant__ Step step, Narrow* to) {
  begin();
  const int s = static_cast<int>(blockIdx.x);
  const float* const row = step.low.row(s);
  const float scale = step.norms ? norm_scale(step, row, 0) : 1.0F;
  for (int i = static_cast<int>(threadIdx.x); i < step.rank; i += 32) {
    to[s * step.rank + i] = __float2bfloat16_rn(row[i] * scale);
  }
}

void convolve(const Context& context, const Mamba1Layer& layer, std::span<float* const> states,
              const Mamba1StepRoom& room) {
  const std::int64_t inner = layer.A.cols;
  StepConv conv{.x = {room.xz.data, room.xz.stride},
                .weight = layer.conv_weight.data,
                .w_stride = layer.conv_weight.stride,
                .bias = layer.conv_bias,
                .y = reinterpret_cast<Narrow*>(room.x),
                .channels = static_cast<int>(inner),
                .states = {}};
  for (std::size_t s = 0; s < states.size(); ++s) conv.states[s] = states[s];
  launch_early(context, "convolution of a step", step_conv_kernel,
               dim3(blocks_for(inner, kConvThreads), static_cast<unsigned>(states.size())), kConvThreads, 0, conv);
}

Step step_of(const Mamba1Layer& layer, const ScanRows& rows, const Mamba1StepRoom& room) {
  const bool given = CodedRows::of(*layer.dt_proj) != nullptr;
  Step step{.xz = {room.xz.data, room.xz.stride},
            .x = reinterpret_cast<const Narrow*>(room.x),
            .low = {room.low.data, room.low.stride},
            .dt = {room.dt.data, room.dt.stride},
            .dt_weights = given ? nullptr : reinterpret_cast<const Narrow*>(PackedRows::of(*layer.dt_proj).row(0)),
            .dt_bias = layer.dt_bias,
            .A = layer.A.data,
            .A_stride = layer.A.stride,
            .D = layer.D,
            .gated = reinterpret_cast<Narrow*>(room.gated),
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
  const auto kernel = given ? (rounded ? step_kernel<true, Narrow> : step_kernel<true, float>)
                            : (rounded ? step_kernel<false, Narrow> : step_kernel<false, float>);
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
    step_product(context, reinterpret_cast<const Narrow*>(x), sequences, w, out);
  };
  const auto outputs_of = [](const PackedMatrix& w) { return static_cast<int>(w.out_features()); };
  norm_stream(context, stream.residual, stream.h_pending ? &stream.h : nullptr, layer.norm, layer.norm_eps,
              {reinterpret_cast<Narrow*>(room.normed), model});
  product(room.normed, *layer.in_proj, {.y = room.xz, .outputs = outputs_of(*layer.in_proj)});
  convolve(context, layer, conv_states, room);
  product(room.x, *layer.x_proj, {.y = room.low, .outputs = outputs_of(*layer.x_proj)});
  const Step step = step_of(layer, rows, room);
  const bool given = step.dt_weights == nullptr;
  if (given) {
    launch_early(context, "rounding the input of a product", round_low_kernel, static_cast<unsigned>(sequences), 32, 0,
                 step, reinterpret_cast<Narrow*>(room.dt_low));
    product(room.dt_low, *layer.dt_proj, {.y = room.dt, .outputs = outputs_of(*layer.dt_proj)});
  }
  launch(context, step, given, !rows.rounded.empty());
  product(room.gated, *layer.out_proj,
          {.y = stream.leaves_h ? stream.h : stream.residual,
           .outputs = static_cast<int>(model),
           .adds = !stream.leaves_h});
}

}  // namespace molt::cuda
