// Products of up to 16 rows with few outputs of many inputs, on compute capability 9.0: decoding.
#pragma once

#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/step_output.cuh"

namespace molt::cuda {

/// Whether cluster_product() takes them.
bool can_cluster(const Context& context, std::int64_t rows, const PackedRows& w);

/// y = x * w^T, all outputs of w; x in bfloat16, [rows, w.stride()] without gaps, aligned to 16 bytes. No norm's scale.
void cluster_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                     const StepOutput& out);

}  // namespace molt::cuda
