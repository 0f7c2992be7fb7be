// Products with coded weights (coded_rows.h).
#pragma once

#include "kernels/cuda/coded_rows.h"
#include "kernels/cuda/step_output.cuh"

namespace molt::cuda {

/// y = x * (outputs [first, first + out.outputs) of w)^T of up to kMostCodedRows rows, x rounded to bfloat16. All
/// blocks run `shift`.
void coded_product(Matrix<const float> x, const CodedRows& w, std::int64_t first, const StepOutput& out);

/// The same of rows in bfloat16 that begin at 16 bytes, their length a multiple of 8.
void coded_product(Rows<const __nv_bfloat16> x, std::int64_t rows, const CodedRows& w, const StepOutput& out,
                   const StateShift& shift);

/// Outputs [first, first + count) of w in bfloat16, as rows of `stride` elements, a multiple of 8, finite ones
/// behind w's.
void widen(const Context& context, const CodedRows& w, std::int64_t first, std::int64_t count, __nv_bfloat16* to,
           std::int64_t stride);

/// CudaBackend::embed; `ids` on the device.
void coded_embed(const Context& context, const CodedRows& table, const TokenId* ids, Matrix<float> y);

}  // namespace molt::cuda
