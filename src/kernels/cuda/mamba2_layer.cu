// A Mamba-2 layer as a whole, for many rows: with weights in bfloat16, what passes from product to product is in it,
// too (z, x, B, C before and behind the convolution, y, the normed rows). The residual stream, dt, decays and states
// stay float32.
#include "kernels/cuda/mamba2_layer.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/mamba2_step.h"
#include "kernels/cuda/narrow_rows.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/ssd_layout.h"

namespace molt {
namespace cuda {
namespace {

using Element = __nv_bfloat16;

shapes::SsdShape shape_of(const Mamba2Layer& layer) {
  const auto heads = static_cast<std::int64_t>(layer.A.size());
  const auto inner = static_cast<std::int64_t>(layer.D.size());
  return {heads, inner / heads, (layer.conv_weight.cols - inner) / (2 * layer.groups), layer.groups};
}

std::byte* narrow(Arena& arena, std::int64_t elements) {
  return reinterpret_cast<std::byte*>(arena.floats((elements + 1) / 2));
}

/// y of `layer`'s scan, from what was convolved.
void scan(Context& context, const Mamba2Layer& layer, const LayerRoom& room, const ScanRows& rows) {
  const shapes::SsdShape& shape = room.shape;
  const std::int64_t total = rows.offsets.back();
  const Rows<float> none(nullptr, 0);  // the scan's inputs and outputs are in bfloat16, elsewhere
  const Rows<const float> nothing(nullptr, 0), dt(room.dt.data, room.dt.stride);
  const float* const multiplicity =
      rows.multiplicity == nullptr ? nullptr : context.hand_over(rows.multiplicity, total);
  const Ssd ssd{nothing,
                dt,
                layer.A.data(),
                nothing,
                nothing,
                layer.D.data(),
                multiplicity,
                nullptr,
                none,
                static_cast<int>(shape.heads),
                static_cast<int>(shape.channels),
                static_cast<int>(shape.states),
                static_cast<int>(shape.groups)};
  const Rows<Element> y(reinterpret_cast<Element*>(room.y), room.inner);
  for_tables(rows, [&](const SequenceTable& table, int /*longest*/) {
    auto* const first = reinterpret_cast<Element*>(room.xbc) + table.offsets[0] * room.conv;
    const SsdLayout<Element> layout = lay_over(context, table, ssd, first);
    multiply_rows(context, table, layout, 0);
    ssd_panels(context, table, ssd, layout, y, !rows.rounded.empty(), 0);
  });
}

}  // namespace

bool fits_mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream, const ScanRows& rows) {
  const shapes::SsdShape shape = shape_of(layer);
  const std::int64_t model = stream.residual.cols, inner = shape.heads * shape.channels;
  if (rows.offsets.back() < kLeastLayerRows && !(is_step(rows) && fits_mamba2_step(layer))) return false;
  if (layer.conv_weight.rows != 4) return false;
  // In bfloat16, or quantized.
  if (layer.in_proj->dtype() == DType::f32 || layer.out_proj->dtype() == DType::f32) return false;
  if (model % 8 != 0 || inner % 8 != 0 || shape.channels % 8 != 0 || shape.states % 8 != 0) return false;
  if (shape.states > 128 || layer.gate_norm_group % 8 != 0) return false;
  if (model > kMostNormColumns || layer.gate_norm_group > kMostNormColumns) return false;
  return layer.in_proj->out_features() == inner + layer.conv_weight.cols + shape.heads;
}

LayerRoom::LayerRoom(const Mamba2Layer& layer, std::int64_t rows, Arena& arena)
    : shape(shape_of(layer)),
      inner(shape.heads * shape.channels),
      conv(layer.conv_weight.cols),
      zxbc(narrow(arena, rows * (inner + conv))),
      xbc(narrow(arena, rows * conv)),
      y(narrow(arena, rows * std::max(inner, layer.in_proj->in_features()))),
      dt(arena.matrix(rows, shape.heads)) {}

}  // namespace cuda

bool CudaBackend::mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream, std::span<float* const> conv_states,
                               const ScanRows& rows, Arena& arena, Matrix<float> scan_y) const {
  using cuda::Element;
  if (precision_ != DType::bf16 || rows.wanted != nullptr || !cuda::fits_mamba2_layer(layer, stream, rows)) {
    return false;
  }
  cuda::Context& context = cuda::Context::get();
  context.leave_scan(nullptr);
  const std::int64_t heads = std::ssize(layer.A), states = layer.conv_weight.cols - std::ssize(layer.D);
  const std::int64_t total = rows.offsets.back(), model = stream.residual.cols;
  const bool is_short = total < cuda::kLeastLayerRows;
  if (!is_short && !cuda::can_use_panels(context, static_cast<int>(states / (2 * layer.groups)))) return false;
  for (const void* data : {static_cast<const void*>(layer.norm), static_cast<const void*>(layer.gate_norm),
                           static_cast<const void*>(layer.conv_weight.data), static_cast<const void*>(layer.conv_bias),
                           static_cast<const void*>(stream.residual.data), static_cast<const void*>(stream.h.data),
                           static_cast<const void*>(scan_y.data)}) {
    if (!cuda::is_aligned(data)) return false;
  }
  for (const float* state : conv_states) {
    if (!cuda::is_aligned(state)) return false;
  }
  for (const std::int64_t stride : {layer.conv_weight.stride, stream.residual.stride, stream.h.stride, scan_y.stride}) {
    if (stride % 4 != 0) return false;
  }
  if (is_short) {
    if (rows.multiplicity != nullptr || scan_y.data != nullptr) return false;
    cuda::mamba2_step(context, layer, stream, conv_states, rows, cuda::StepRoom(layer, total, arena));
    return true;
  }
  const cuda::LayerRoom room(layer, total, arena);
  const PackedMatrix& in = *layer.in_proj;
  const PackedMatrix& out = *layer.out_proj;
  auto* const zxbc = reinterpret_cast<Element*>(room.zxbc);
  auto* const y = reinterpret_cast<Element*>(room.y);
  const std::int64_t projected = room.inner + room.conv;

  cuda::norm_stream(context, stream.residual, stream.h_pending ? &stream.h : nullptr, layer.norm, layer.norm_eps,
                    {y, model});
  const cuda::Rows<const Element> normed(y, model);
  cuda::product_narrow(normed, total, in, 0, projected, {zxbc, projected});
  cuda::product_wide(normed, total, in, projected, heads, room.dt, false);
  softplus(room.dt, layer.dt_bias, layer.dt_min, layer.dt_max, room.dt);
  const auto conv_state = [&](std::size_t s, cuda::SequenceTable& table, int slot) {
    table.states[slot] = conv_states[s];
  };
  cuda::for_tables(rows.offsets, conv_state, [&](const cuda::SequenceTable& table, int longest) {
    cuda::conv(context, table, longest, {zxbc + room.inner, projected}, layer.conv_weight, layer.conv_bias,
               {reinterpret_cast<Element*>(room.xbc), room.conv});
  });
  cuda::scan(context, layer, room, rows);
  cuda::gated_norm(context, {y, room.inner}, {zxbc, projected}, total, room.inner, layer.gate_norm, layer.gate_norm_eps,
                   layer.gate_norm_group, layer.norm_before_gate, scan_y);
  if (scan_y.data != nullptr) context.leave_scan(scan_y.data);
  const Matrix<float> target = stream.leaves_h ? stream.h : stream.residual;
  cuda::product_wide({y, room.inner}, total, out, 0, model, target, !stream.leaves_h);
  return true;
}

}  // namespace molt
