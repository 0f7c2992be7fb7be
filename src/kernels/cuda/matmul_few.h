// Products of a few rows.
#pragma once

#include "kernels/cuda/packed_matrix.h"
#include "kernels/cuda/step_output.cuh"

namespace molt::cuda {

/// Whether few_rows() takes them.
bool are_few(std::int64_t rows, const PackedRows& w);

/// CudaBackend::matmul of these.
void few_rows(Matrix<const float> x, const PackedRows& w, const float* bias, Matrix<float> y, std::int64_t first);

/// The same of rows in bfloat16, as w is, with all of its outputs.
void few_rows(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedRows& w, const StepOutput& out,
              const StateShift& shift);

}  // namespace molt::cuda
