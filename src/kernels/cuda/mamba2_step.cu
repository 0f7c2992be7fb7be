// A Mamba-2 layer when each sequence takes one token, in four kernels: the norm; the input's product; softplus,
// convolution, the scan's step and the gate; the output's product, which scales by the gated norm, adds to the stream
// and moves the convolutions' states on.
#include "kernels/cuda/mamba2_step.h"

#include "kernels/cuda/coded_product.h"
#include "kernels/cuda/matmul_few.h"
#include "kernels/cuda/matmul_stream.h"
#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/stored_state.cuh"

namespace molt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTaps = 4;
constexpr int kEach = 4;  // channels of a state that a thread takes side by side
constexpr int kMostStates = 128;
constexpr int kWideColumns = 64, kNarrowColumns = 32;  // channels a block
constexpr float kLog2e = 1.4426950408889634F;

/// What the step's kernel takes.
struct Step {
  Rows<const float> zxbcdt;
  const float* conv_weight;
  std::int64_t conv_stride;
  const float* conv_bias;  // or null
  const float* dt_bias;
  float dt_min, dt_max;
  const float* A;
  const float* D;
  const float* gate_norm;
  bool norm_before_gate;
  int heads, channels, states, groups;
  __nv_bfloat16* gated;  // [S, heads * channels], but for the norm's scale
  float* squares;        // [S, parts]
  const float* conv_states[kMostStepSequences];
  void* ssm_states[kMostStepSequences];  // float or bf16
  std::uint32_t keys[kMostStepSequences];
  const std::uint32_t* keys_there;  // instead of these, or null

  __device__ int inner() const { return heads * channels; }
};

/// A block's share of a layer: kColumns channels of a head of a sequence.
template <int kColumns>
struct Room {
  static constexpr int kLanes = kColumns / kEach;
  static constexpr int kParts = kThreads / kLanes;   // of the states
  static constexpr int kOwn = kMostStates / kParts;  // states a thread
  float sums[kParts][kColumns];
  float x[kColumns], B[kMostStates], C[kMostStates];
  float squares[kColumns / 32];
};

/// The channels that a thread convolves: of x, B and C of its block's head. What depends on no other kernel is fetched
/// first.
template <int kColumns>
class Convolution {
 public:
  __device__ Convolution(const Step& step, int s, int h, int p0) : step_(step), s_(s) {
    const int group = h / (step.heads / step.groups);
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      const int i = item(j), n = i - kColumns;
      channel_[j] = -1;
      if (i < kColumns) {
        if (p0 + i < step.channels) channel_[j] = h * step.channels + p0 + i;
      } else if (n < 2 * step.states) {
        const int part = n / step.states;  // B or C
        channel_[j] = step.inner() + (part * step.groups + group) * step.states + n - part * step.states;
      }
      if (channel_[j] < 0) continue;
      bias_[j] = step.conv_bias == nullptr ? 0.0F : step.conv_bias[channel_[j]];
#pragma unroll
      for (int k = 0; k < kTaps; ++k) weights_[j][k] = step.conv_weight[k * step.conv_stride + channel_[j]];
#pragma unroll
      for (int k = 0; k + 1 < kTaps; ++k) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(step.conv_states[s] + k * channels() + channel_[j]));
      }
    }
  }

  __device__ void run(Room<kColumns>& room) const {
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      if (channel_[j] < 0) continue;
      const float* const state = step_.conv_states[s_] + channel_[j];
      float sum = bias_[j] + weights_[j][kTaps - 1] * step_.zxbcdt.row(s_)[step_.inner() + channel_[j]];
#pragma unroll
      for (int k = 0; k + 1 < kTaps; ++k) sum += weights_[j][k] * state[k * channels()];
      const int i = item(j), n = i - kColumns;
      (i < kColumns ? room.x[i] : n < step_.states ? room.B[n] : room.C[n - step_.states]) = silu(sum);
    }
  }

 private:
  static constexpr int kItems = (kColumns + 2 * kMostStates + kThreads - 1) / kThreads;
  static __device__ int item(int j) {
    return static_cast<int>(threadIdx.x) + j * kThreads;
  }
  __device__ int channels() const {
    return step_.inner() + 2 * step_.groups * step_.states;
  }

  const Step& step_;
  const int s_;
  int channel_[kItems];
  float bias_[kItems], weights_[kItems][kTaps];
};

/// Threads of the first columns: y of a channel, gated, with the sum of the block's squares for the norm.
template <int kColumns>
__device__ void write(const Step& step, int s, int column, float D, float weight, float z, Room<kColumns>& room) {
  const int c = static_cast<int>(threadIdx.x);
  float square = 0;
  if (column >= 0) {
    float y = D * room.x[c];
#pragma unroll
    for (int part = 0; part < Room<kColumns>::kParts; ++part) y += room.sums[part][c];
    const float gated = y * silu(z);
    square = step.norm_before_gate ? y * y : gated * gated;
    step.gated[static_cast<std::int64_t>(s) * step.inner() + column] = __float2bfloat16_rn(gated * weight);
  }
  const float sum = warp_sum(square);
  if (c % 32 == 0) room.squares[c / 32] = sum;
}

template <int kColumns, class T>
__global__ void __launch_bounds__(kThreads, 4) step_kernel(const __grid_constant__ Step step) {
  using R = Room<kColumns>;
  __shared__ R room;
  let_next_start();
  const int s = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y);
  const int p0 = static_cast<int>(blockIdx.x) * kColumns;
  const int lane = static_cast<int>(threadIdx.x) % R::kLanes, part = static_cast<int>(threadIdx.x) / R::kLanes;
  const int p = p0 + lane * kEach;
  const bool mine = p < step.channels;
  const StoredState<T> state{
      static_cast<T*>(step.ssm_states[s]) + static_cast<std::int64_t>(h) * step.states * step.channels,
      step.keys_there != nullptr ? step.keys_there[s] : step.keys[s]};
  // The state comes into the cache; what it is, is known only when the kernel before has ended.
  for (int n = static_cast<int>(threadIdx.x); n < step.states; n += kThreads) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(state.data + n * step.channels + p0));
  }
  const Convolution<kColumns> convolution(step, s, h, p0);
  // The column of y that this thread will write.
  const int own = static_cast<int>(threadIdx.x);
  const int column = own < kColumns && p0 + own < step.channels ? h * step.channels + p0 + own : -1;
  const float D = column < 0 ? 0.0F : step.D[column], weight = column < 0 ? 0.0F : step.gate_norm[column];
  const float rate = step.A[h] * kLog2e, dt_bias = step.dt_bias[h];
  wait_for_previous();
  const float z = column < 0 ? 0.0F : step.zxbcdt.row(s)[column];
  float S[R::kOwn][kEach];
#pragma unroll
  for (int i = 0; i < R::kOwn; ++i) {
    const int n = part + i * R::kParts;
    if (!mine || n >= step.states) continue;
    if constexpr (sizeof(T) == 4) {
      const float4 four = *reinterpret_cast<const float4*>(state.data + n * step.channels + p);
      S[i][0] = four.x, S[i][1] = four.y, S[i][2] = four.z, S[i][3] = four.w;
    } else {
#pragma unroll
      for (int k = 0; k < kEach; ++k) S[i][k] = state.get(n * step.channels + p + k);
    }
  }
  const float raw = step.zxbcdt.row(s)[2 * step.inner() + 2 * step.groups * step.states + h] + dt_bias;
  const float dt = fminf(step.dt_max, fmaxf(step.dt_min, softplus_of(raw)));
  const float decay = power_of_2(dt * rate);
  convolution.run(room);
  __syncthreads();
  float input[kEach], sums[kEach] = {};
#pragma unroll
  for (int k = 0; k < kEach; ++k) input[k] = mine ? dt * room.x[lane * kEach + k] : 0.0F;
#pragma unroll
  for (int i = 0; i < R::kOwn; ++i) {
    const int n = part + i * R::kParts;
    if (!mine || n >= step.states) continue;
    const float b = room.B[n], c = room.C[n];
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      S[i][k] = decay * S[i][k] + b * input[k];
      sums[k] += c * S[i][k];
    }
    if constexpr (sizeof(T) == 4) {
      *reinterpret_cast<float4*>(state.data + n * step.channels + p) = {S[i][0], S[i][1], S[i][2], S[i][3]};
    } else {
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        state.set(n * step.channels + p + k, static_cast<std::uint32_t>(h * step.channels + p + k),
                  static_cast<std::uint32_t>(n), S[i][k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) room.sums[part][lane * kEach + k] = sums[k];
  __syncthreads();
  if (threadIdx.x >= kColumns) return;
  write(step, s, column, D, weight, z, room);
  if constexpr (kColumns > 32) asm volatile("bar.sync 1, %0;" ::"n"(kColumns) : "memory");
  if (threadIdx.x != 0) return;
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kColumns / 32; ++w) sum += room.squares[w];
  step.squares[(s * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

/// Narrow blocks where wide ones would leave multiprocessors without work.
bool takes_narrow(const Context& context, std::int64_t heads, std::int64_t channels, std::int64_t sequences) {
  return blocks_for(channels, kWideColumns) * heads * sequences < 2 * context.processors();
}

void launch(const Context& context, const Step& step, std::int64_t sequences, bool rounded, bool narrow) {
  const int columns = narrow ? kNarrowColumns : kWideColumns;
  const dim3 grid(blocks_for(step.channels, columns), static_cast<unsigned>(step.heads),
                  static_cast<unsigned>(sequences));
  const auto kernel = narrow
                          ? (rounded ? step_kernel<kNarrowColumns, __nv_bfloat16> : step_kernel<kNarrowColumns, float>)
                          : (rounded ? step_kernel<kWideColumns, __nv_bfloat16> : step_kernel<kWideColumns, float>);
  launch_early(context, "a step of a layer", kernel, grid, kThreads, 0, step);
}

void product(const Context& context, const std::byte* x, std::int64_t rows, const PackedMatrix& weights,
             const StepOutput& out, const StateShift& shift) {
  const auto* const narrow = reinterpret_cast<const __nv_bfloat16*>(x);
  if (const CodedRows* const coded = CodedRows::of(weights)) {
    return coded_product({narrow, weights.in_features()}, rows, *coded, out, shift);
  }
  const PackedRows& w = PackedRows::of(weights);
  if (can_stream(context, rows, w)) {
    stream_product(context, narrow, rows, w, 0, out, shift);
  } else if (are_few(rows, w)) {
    few_rows({narrow, w.stride()}, rows, w, out, shift);
  } else {
    tile_product(context, narrow, rows, w, out, shift);
  }
}

}  // namespace

bool is_step(const ScanRows& rows) {
  const auto sequences = static_cast<std::int64_t>(rows.sequences());
  if (rows.offsets.back() != sequences || sequences > kMostStepSequences) return false;
  for (std::int64_t s = 0; s < sequences; ++s) {
    if (rows.offsets[static_cast<std::size_t>(s)] != s) return false;
  }
  return true;
}

bool fits_mamba2_step(const Mamba2Layer& layer) {
  return layer.gate_norm_group == std::ssize(layer.D);
}

StepRoom::StepRoom(const Mamba2Layer& layer, std::int64_t rows, Arena& arena)
    : normed(reinterpret_cast<std::byte*>(arena.floats(kTileRows * layer.in_proj->in_features() / 2))),
      gated(reinterpret_cast<std::byte*>(arena.floats(kTileRows * std::ssize(layer.D) / 2))),
      zxbcdt(arena.matrix(rows, layer.in_proj->out_features())),
      squares(arena.floats(rows * std::ssize(layer.D) / 8)) {}  // parts of 8 channels at the least

void mamba2_step(const Context& context, const Mamba2Layer& layer, const LayerStream& stream,
                 std::span<float* const> conv_states, const ScanRows& rows, const StepRoom& room) {
  const std::int64_t sequences = rows.offsets.back(), model = stream.residual.cols;
  const auto heads = std::ssize(layer.A), inner = std::ssize(layer.D), conv = layer.conv_weight.cols;
  const PackedMatrix& in = *layer.in_proj;
  const PackedMatrix& out = *layer.out_proj;
  norm_stream(context, stream.residual, stream.h_pending ? &stream.h : nullptr, layer.norm, layer.norm_eps,
              {reinterpret_cast<__nv_bfloat16*>(room.normed), model});
  product(context, room.normed, sequences, in, {.y = room.zxbcdt, .outputs = static_cast<int>(room.zxbcdt.cols)}, {});

  Step step{.zxbcdt = {room.zxbcdt.data, room.zxbcdt.stride},
            .conv_weight = layer.conv_weight.data,
            .conv_stride = layer.conv_weight.stride,
            .conv_bias = layer.conv_bias,
            .dt_bias = layer.dt_bias,
            .dt_min = layer.dt_min,
            .dt_max = layer.dt_max,
            .A = layer.A.data(),
            .D = layer.D.data(),
            .gate_norm = layer.gate_norm,
            .norm_before_gate = layer.norm_before_gate,
            .heads = static_cast<int>(heads),
            .channels = static_cast<int>(inner / heads),
            .states = static_cast<int>((conv - inner) / (2 * layer.groups)),
            .groups = static_cast<int>(layer.groups),
            .gated = reinterpret_cast<__nv_bfloat16*>(room.gated),
            .squares = room.squares,
            .conv_states = {},
            .ssm_states = {},
            .keys = {},
            .keys_there = rows.keys};
  StateShift shift{.count = static_cast<int>(sequences),
                   .channels = static_cast<int>(conv),
                   .x = {room.zxbcdt.data + inner, room.zxbcdt.stride},
                   .states = {}};
  for (std::size_t s = 0; s < static_cast<std::size_t>(sequences); ++s) {
    step.conv_states[s] = shift.states[s] = conv_states[s];
    step.ssm_states[s] = rows.rounded.empty() ? static_cast<void*>(rows.states[s]) : rows.rounded[s].data;
    step.keys[s] = rows.rounded.empty() ? 0 : rows.rounded[s].key;
  }
  const bool narrow = takes_narrow(context, heads, step.channels, sequences);
  launch(context, step, sequences, !rows.rounded.empty(), narrow);
  const std::int64_t parts = heads * blocks_for(step.channels, narrow ? kNarrowColumns : kWideColumns);
  product(context, room.gated, sequences, out,
          {.y = stream.leaves_h ? stream.h : stream.residual,
           .outputs = static_cast<int>(model),
           .adds = !stream.leaves_h,
           .squares = room.squares,
           .parts = static_cast<int>(parts),
           .columns = static_cast<float>(inner),
           .eps = layer.gate_norm_eps},
          shift);
}

}  // namespace molt::cuda
