// Products of a step: up to 16 rows in bfloat16, by whichever kernel suits the weights.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/step_output.cuh"
#include "kernels/layer_stream.h"

namespace molt::cuda {

/// y = x * w^T as `out` says; x in bfloat16 [kTileRows, w's inputs padded to a multiple of 8] without gaps, aligned to
/// 16 bytes, those behind `rows` of whatever numbers. All blocks run `shift`.
void step_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedMatrix& w,
                  const StepOutput& out, const StateShift& shift = {});

/// The same of the stream's RMS norm, after what is pending is added to it; its rows and the norm's weights are aligned
/// to 16 bytes. `normed`: room for x as above.
void step_product(const Context& context, const LayerStream& stream, const float* norm, float eps,
                  __nv_bfloat16* normed, const PackedMatrix& w, const StepOutput& out);

}  // namespace molt::cuda
