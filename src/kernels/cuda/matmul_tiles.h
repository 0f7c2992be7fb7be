// Products of a tile of rows, with weights in bfloat16.
#pragma once

#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/step_output.cuh"

namespace molt::cuda {

/// Whether tile_matmul takes them: up to 16 rows.
bool are_tile(Matrix<const float> x, const PackedRows& w);

/// As Backend::matmul; `bias` is that of output `first`, or null.
void tile_matmul(Matrix<const float> x, const PackedRows& w, const float* bias, Matrix<float> y, std::int64_t first);

constexpr int kTileRows = 16;

/// The same of rows in bfloat16, [kTileRows, w.stride()] without gaps, those behind `rows` of whatever numbers; with
/// all outputs of w.
void tile_product(const Context& context, const __nv_bfloat16* x, std::int64_t rows, const PackedRows& w,
                  const StepOutput& out, const StateShift& shift);

}  // namespace molt::cuda
