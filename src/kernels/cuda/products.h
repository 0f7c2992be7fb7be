// Products of plain matrices on the device, for ops that are made of them.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/packed_matrix.h"

namespace molt::cuda {

/// `count` products y [T, N] = x [T, K] * w [N, K]^T with x and w in `dtype`, float32 proper or bfloat16, and sums and
/// y in float32. Of each of the three the matrices lie behind each other, without gaps, 16-byte aligned; so are rows of
/// K.
struct PlainProducts {
  std::int64_t count, rows, out, in;  // T, N, K
  DType dtype;
};
void products(Context& context, const PlainProducts& shape, const void* x, const void* w, float* y);

/// y [T, out] = x [T, K] * (outputs [first, first + out) of w)^T, w in bfloat16 or coded (coded_rows.h), x's rows
/// aligned to 16 bytes and as long as w's: in bfloat16, or in float32 and, with `adds`, added to what y holds.
void product_narrow(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                    std::int64_t out, Rows<__nv_bfloat16> y);
void product_wide(Rows<const __nv_bfloat16> x, std::int64_t rows, const PackedMatrix& w, std::int64_t first,
                  std::int64_t out, Rows<float> y, bool adds);

}  // namespace molt::cuda
