// The CPU backend's products with quantized weights: x is rounded to 8 bits, split over threads, multiplied in
// integers.
#pragma once

#include "kernels/cpu/quantized_panels.h"
#include "tensor/tensor.h"

namespace molt {

/// y [T, M] = outputs [first_out, first_out + M) of x [T, K] * W^T (+ bias [N], unless null), as Backend::matmul. x and
/// y may be strided. Each row of x is rounded to 8 bits in blocks of w.block() columns (isa/quantized_gemm.cc says how
/// they meet the weights). A row of y is the same, bit for bit, for any number of threads and whatever the other rows
/// are.
///
/// Allocates nothing once a thread has seen its largest call. Safe to call from several threads.
void quantized_matmul(Matrix<const float> x, const QuantizedPanels& w, const float* bias, Matrix<float> y,
                      std::int64_t first_out = 0);

}  // namespace molt
