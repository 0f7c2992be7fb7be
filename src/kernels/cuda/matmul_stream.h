// Products of up to 16 rows with weights in bfloat16 on compute capability 9.0: decoding.
#pragma once

#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/step_output.cuh"

namespace molt::cuda {

/// Whether stream_product() takes so many rows.
bool can_stream(const Context& context, std::int64_t rows, const PackedRows& w);

/// y = x * (outputs [first, first + out.outputs) of w)^T; x in bfloat16, [rows, w.stride()] without gaps, aligned to 16
/// bytes. All of its blocks run `shift`.
void stream_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                    std::int64_t first, const StepOutput& out, const StateShift& shift);

/// Rows and their RMS norm: x / rms(x) * weight.
struct NormedRows {
  Rows<const float> x;
  const float* weight;
  float eps;
};

/// Whether stream_product() takes so many rows with their norm.
bool can_stream_norm(const Context& context, std::int64_t rows, const PackedRows& w);

/// y = norm * w^T, all aligned to 16 bytes; w's rows without gaps.
void stream_product(const Context& context, const NormedRows& norm, std::int64_t rows, const PackedRows& w,
                    const StepOutput& out);

}  // namespace molt::cuda
