// Products of plain matrices on the device, for ops that are made of them.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/packed_matrix.h"

namespace molt::cuda {

/// y [T, N] = x [T, K] * w [N, K]^T in float32, all without gaps and 16-byte aligned, K a multiple of 4.
void product_f32(const float* x, std::int64_t rows, const float* w, std::int64_t out, std::int64_t in, float* y);

/// y [T, out] = x [T, K] * (outputs [first, first + out) of w)^T, w in bfloat16 or coded (coded_rows.h), x's rows
/// aligned to 16 bytes and as long as w's: in bfloat16, or in float32 and, with `adds`, added to what y holds.
void product_narrow(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                    std::int64_t out, Rows<__nv_bfloat16> y);
void product_wide(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                  std::int64_t out, Rows<float> y, bool adds);

}  // namespace molt::cuda
