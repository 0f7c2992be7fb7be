// The CPU backend's matmul: splits a product over threads and chooses who computes the pieces.
#pragma once

#include "kernels/backend.h"
#include "tensor/tensor.h"

namespace molt {

/// y [T, M] = outputs [first_out, first_out + M) of x [T, K] * W^T (+ bias [N], unless null), as Backend::matmul, for a
/// matrix that pack_panels() made. x and y may be strided. A row of y is the same, bit for bit, for any number of
/// threads and whatever the other rows are.
///
/// Allocates nothing once a thread has seen its largest call. Safe to call from several threads.
void panel_matmul(Matrix<const float> x, const PackedMatrix& w, const float* bias, Matrix<float> y,
                  std::int64_t first_out = 0);

}  // namespace molt
