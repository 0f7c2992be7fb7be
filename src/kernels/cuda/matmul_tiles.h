// Products of a tile of rows, with weights in bfloat16.
#pragma once

#include "kernels/cuda/packed_matrix.h"

namespace molt::cuda {

/// Whether tile_matmul takes them: up to 16 rows.
bool are_tile(Matrix<const float> x, const PackedRows& w);

/// As Backend::matmul; `bias` is that of output `first`, or null.
void tile_matmul(Matrix<const float> x, const PackedRows& w, const float* bias, Matrix<float> y, std::int64_t first);

}  // namespace molt::cuda
