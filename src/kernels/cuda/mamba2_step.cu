// A Mamba-2 layer when each sequence takes one token, in four kernels: the norm; the input's product; softplus,
// convolution, the scan's step and the gate; the output's product, which scales by the gated norm, adds to the stream
// and moves the convolutions' states on.
#include "kernels/cuda/mamba2_step.h"

#include "kernels/cuda/matmul_tiles.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/step_head.cuh"
#include "kernels/cuda/step_product.h"

namespace molt::cuda {
namespace {

constexpr int kWideColumns = 64, kNarrowColumns = 32;  // channels a block

/// Threads a block: with states in bfloat16 fewer, which take more elements each, for all that each does besides
/// counts.
template <int kColumns, class T>
constexpr int kThreads = kColumns == kWideColumns && sizeof(T) == 2 ? 128 : 256;

template <int kColumns, class T>
__global__ void __launch_bounds__((kThreads<kColumns, T>), (kThreads<kColumns, T> == 128 ? 6 : 4))
    step_kernel(const __grid_constant__ StepLayer layer) {
  using Head = StepHead<kThreads<kColumns, T>, kColumns, T>;
  __shared__ typename Head::Room room;
  let_next_start();
  const Head head(layer, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x),
                  static_cast<int>(threadIdx.x));
  typename Head::Ahead ahead;
  // The states come into the cache; what they are, is known only when the kernel before has ended.
  head.prefetch_states();
  head.fetch_constants(ahead);
  wait_for_previous();
  head.fetch_states(ahead);
  head.run(ahead, room);
}

/// Narrow blocks where wide ones would leave multiprocessors without work.
bool takes_narrow(const Context& context, std::int64_t heads, std::int64_t channels, std::int64_t sequences) {
  return blocks_for(channels, kWideColumns) * heads * sequences < 2 * context.processors();
}

template <int kColumns, class T>
void launch(const Context& context, const StepLayer& step, std::int64_t sequences) {
  const dim3 grid(blocks_for(step.channels, kColumns), static_cast<unsigned>(step.heads),
                  static_cast<unsigned>(sequences));
  stand_beside_products(step_kernel<kColumns, T>);
  launch_early(context, "a step of a layer", step_kernel<kColumns, T>, grid, kThreads<kColumns, T>, 0, step);
}

template <class T>
void launch(const Context& context, const StepLayer& step, std::int64_t sequences) {
  if (takes_narrow(context, step.heads, step.channels, sequences)) {
    launch<kNarrowColumns, T>(context, step, sequences);
  } else {
    launch<kWideColumns, T>(context, step, sequences);
  }
}

StepLayer step_layer(const Mamba2Layer& layer, std::span<float* const> conv_states, const ScanRows& rows,
                     const StepRoom& room) {
  const auto heads = std::ssize(layer.A), inner = std::ssize(layer.D);
  StepLayer step{.zxbcdt = {room.zxbcdt.data, room.zxbcdt.stride},
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
                 .states = static_cast<int>((layer.conv_weight.cols - inner) / (2 * layer.groups)),
                 .groups = static_cast<int>(layer.groups),
                 .gated = reinterpret_cast<__nv_bfloat16*>(room.gated),
                 .squares = room.squares,
                 .conv_states = {},
                 .ssm_states = {},
                 .keys = {},
                 .keys_there = rows.keys};
  for (std::size_t s = 0; s < conv_states.size(); ++s) {
    step.conv_states[s] = conv_states[s];
    step.ssm_states[s] = rows.rounded.empty() ? static_cast<void*>(rows.states[s]) : rows.rounded[s].data;
    step.keys[s] = rows.rounded.empty() ? 0 : rows.rounded[s].key;
  }
  return step;
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
  step_product(context, stream, layer.norm, layer.norm_eps, reinterpret_cast<__nv_bfloat16*>(room.normed), in,
               {.y = room.zxbcdt, .outputs = static_cast<int>(room.zxbcdt.cols)});

  const StepLayer step = step_layer(layer, conv_states, rows, room);
  StateShift shift{.count = static_cast<int>(sequences),
                   .first = static_cast<int>(inner),
                   .channels = static_cast<int>(conv),
                   .x = {room.zxbcdt.data + inner, room.zxbcdt.stride},
                   .states = {}};
  for (std::size_t s = 0; s < static_cast<std::size_t>(sequences); ++s) shift.states[s] = conv_states[s];
  if (rows.rounded.empty()) {
    launch<float>(context, step, sequences);
  } else {
    launch<__nv_bfloat16>(context, step, sequences);
  }
  step_product(context, reinterpret_cast<const __nv_bfloat16*>(room.gated), sequences, out,
               {.y = stream.leaves_h ? stream.h : stream.residual,
                .outputs = static_cast<int>(model),
                .adds = !stream.leaves_h,
                .squares = room.squares,
                .parts = step.parts(),
                .columns = static_cast<float>(inner),
                .eps = layer.gate_norm_eps},
               shift);
}

}  // namespace molt::cuda
