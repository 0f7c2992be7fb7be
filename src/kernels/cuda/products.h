// Products of plain matrices on the device, for ops that are made of them.
#pragma once

#include <cstdint>

namespace molt::cuda {

/// y [T, N] = x [T, K] * w [N, K]^T in float32, all without gaps and 16-byte aligned, K a multiple of 4.
void product_f32(const float* x, std::int64_t rows, const float* w, std::int64_t out, std::int64_t in, float* y);

}  // namespace molt::cuda
