// A Mamba-1 layer as a whole, for many rows: with weights in bfloat16, what passes from product to product is in it,
// too (x and z, x behind the convolution, dt before softplus, B, C, y, the normed rows). The residual stream, decays
// and states stay float32.
#include "kernels/cuda/mamba1_layer.h"

#include <algorithm>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/mamba1_step.h"
#include "kernels/cuda/mamba2_layer.h"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/row_scan.h"

namespace molt {
namespace cuda {
namespace {

using Narrow = __nv_bfloat16;

bool all_aligned(const Mamba1Layer& layer, const LayerStream& stream, std::span<float* const> conv_states) {
  for (const void* data : {static_cast<const void*>(layer.norm), static_cast<const void*>(layer.conv_weight.data),
                           static_cast<const void*>(layer.conv_bias), static_cast<const void*>(stream.residual.data),
                           static_cast<const void*>(stream.h.data)}) {
    if (!is_aligned(data)) return false;
  }
  for (const float* state : conv_states) {
    if (!is_aligned(state)) return false;
  }
  return layer.conv_weight.stride % 4 == 0 && stream.residual.stride % 4 == 0 && stream.h.stride % 4 == 0;
}

std::byte* narrow(Arena& arena, std::int64_t elements) {
  return reinterpret_cast<std::byte*>(arena.floats((elements + 1) / 2));
}

constexpr int kNormThreads = 96;  // a warp for each of dt, B, C

/// Each of the three parts of a row by its root mean square: `rank`, `states` and `states` columns.
__global__ void __launch_bounds__(kNormThreads) norm_parts_kernel(Rows<Narrow> low, int rank, int states, float eps) {
  begin();
  const int part = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int columns = part == 0 ? rank : states;
  Narrow* const own = low.row(blockIdx.x) + (part == 0 ? 0 : rank + (part - 1) * states);
  float squares = 0;
  for (int i = lane; i < columns; i += 32) {
    const float v = __bfloat162float(own[i]);
    squares += v * v;
  }
  const float scale = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(columns) + eps);
  for (int i = lane; i < columns; i += 32) own[i] = __float2bfloat16_rn(__bfloat162float(own[i]) * scale);
}

void convolve(const Context& context, const Mamba1Layer& layer, const Mamba1Room& room, Offsets offsets,
              std::span<float* const> states) {
  const auto state = [&](std::size_t s, SequenceTable& table, int slot) { table.states[slot] = states[s]; };
  for_tables(offsets, state, [&](const SequenceTable& table, int longest) {
    conv(context, table, longest, {reinterpret_cast<const Narrow*>(room.xz), 2 * room.inner}, layer.conv_weight,
         layer.conv_bias, {reinterpret_cast<Narrow*>(room.x), room.inner});
  });
}

/// y of the gated scan, in dt's place.
void scan(Context& context, const Mamba1Layer& layer, const Mamba1Room& room, const ScanRows& rows) {
  const Rows<Narrow> y(reinterpret_cast<Narrow*>(room.y), room.inner);
  const auto* const xz = reinterpret_cast<const Narrow*>(room.xz);
  const auto* const b = reinterpret_cast<const Narrow*>(room.low) + layer.dt_proj->in_features();
  row_scan<Narrow>(
      context,
      {.x = {reinterpret_cast<const Narrow*>(room.x), room.inner},
       .dt = {y.data, y.stride},
       .z = {xz + room.inner, 2 * room.inner},
       .B = {b, room.low_columns},
       .C = {b + layer.A.rows, room.low_columns},
       .dt_bias = layer.dt_bias,
       .A = layer.A,
       .D = layer.D,
       .multiplicity =
           rows.multiplicity == nullptr ? nullptr : context.hand_over(rows.multiplicity, rows.offsets.back()),
       .y = y,
       .channels = static_cast<int>(room.inner),
       .states = static_cast<int>(layer.A.rows)},
      rows);
}

}  // namespace

bool fits_mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream, const ScanRows& rows) {
  const std::int64_t model = stream.residual.cols, inner = layer.A.cols, rank = layer.dt_proj->in_features();
  if (rows.wanted != nullptr || layer.conv_weight.rows != 4 || layer.A.rows > kMostScanStates) return false;
  if (rows.offsets.back() < kLeastLayerRows) {
    if (!is_step(rows) || rows.multiplicity != nullptr || rank > kMostStepRank) return false;
  }
  // In bfloat16, or quantized.
  for (const PackedMatrix* w : {layer.in_proj, layer.x_proj, layer.dt_proj, layer.out_proj}) {
    if (w->dtype() == DType::f32) return false;
  }
  if (model > kMostNormColumns) return false;
  return model % 8 == 0 && inner % 8 == 0 && rank % 8 == 0;
}

Mamba1Room::Mamba1Room(const Mamba1Layer& layer, std::int64_t rows, Arena& arena)
    : inner(layer.A.cols),
      low_columns((layer.x_proj->out_features() + 7) / 8 * 8),
      xz(narrow(arena, rows * 2 * inner)),
      x(narrow(arena, rows * inner)),
      low(narrow(arena, rows * low_columns)),
      y(narrow(arena, rows * std::max(inner, layer.in_proj->in_features()))) {}

}  // namespace cuda

bool CudaBackend::mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream, std::span<float* const> conv_states,
                               const ScanRows& rows, Arena& arena) const {
  using cuda::Narrow;
  if (precision_ != DType::bf16 || !cuda::fits_mamba1_layer(layer, stream, rows)) return false;
  if (!cuda::all_aligned(layer, stream, conv_states)) return false;
  cuda::Context& context = cuda::Context::get();
  context.leave_scan(nullptr);
  const std::int64_t total = rows.offsets.back(), model = stream.residual.cols;
  if (total < cuda::kLeastLayerRows) {
    cuda::mamba1_step(context, layer, stream, conv_states, rows, cuda::Mamba1StepRoom(layer, total, arena));
    return true;
  }
  const cuda::Mamba1Room room(layer, total, arena);
  auto* const xz = reinterpret_cast<Narrow*>(room.xz);
  auto* const x = reinterpret_cast<Narrow*>(room.x);
  auto* const low = reinterpret_cast<Narrow*>(room.low);
  auto* const y = reinterpret_cast<Narrow*>(room.y);
  const std::int64_t inner = room.inner, rank = layer.dt_proj->in_features(), columns = room.low_columns;

  cuda::norm_stream(context, stream.residual, stream.h_pending ? &stream.h : nullptr, layer.norm, layer.norm_eps,
                    {y, model});
  cuda::product_narrow({y, model}, total, *layer.in_proj, 0, 2 * inner, {xz, 2 * inner});
  cuda::convolve(context, layer, room, rows.offsets, conv_states);
  cuda::product_narrow({x, inner}, total, *layer.x_proj, 0, layer.x_proj->out_features(), {low, columns});
  if (layer.norm_bcdt) {
    launch_early(context, "norms of dt, B and C", cuda::norm_parts_kernel, static_cast<unsigned>(total),
                 cuda::kNormThreads, 0, cuda::Rows<Narrow>(low, columns), static_cast<int>(rank),
                 static_cast<int>(layer.A.rows), layer.bcdt_norm_eps);
  }
  cuda::product_narrow({low, columns}, total, *layer.dt_proj, 0, inner, {y, inner});
  cuda::scan(context, layer, room, rows);
  const Matrix<float> target = stream.leaves_h ? stream.h : stream.residual;
  cuda::product_wide({y, inner}, total, *layer.out_proj, 0, model, target, !stream.leaves_h);
  return true;
}

}  // namespace molt
