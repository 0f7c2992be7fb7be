// Ops of a Mamba-2 layer on rows in bfloat16, which are what mamba2_layer.cu hands from kernel to kernel. All rows and
// vectors are aligned to 16 bytes, columns are multiples of 8.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sequences.cuh"

namespace molt::cuda {

constexpr std::int64_t kMostNormColumns = 6144;  // of a row, or a group of it

/// y = rms_norm(residual), after residual += h where that is not null.
void norm_stream(const Context& context, Matrix<float> residual, const Matrix<float>* h, const float* weight, float eps,
                 Rows<__nv_bfloat16> y);

/// Backend::gated_rms_norm, y in place. `before` becomes what y was, unless it is null.
void gated_norm(const Context& context, Rows<__nv_bfloat16> y, Rows<const __nv_bfloat16> z, std::int64_t rows,
                std::int64_t cols, const float* weight, float eps, std::int64_t group, bool norm_before_gate,
                Rows<float> before);

/// Backend::causal_conv of four taps for the table's sequences, their states in float32.
void conv(const Context& context, const SequenceTable& table, int longest, Rows<const __nv_bfloat16> x,
          Matrix<const float> weight, const float* bias, Rows<__nv_bfloat16> y);

}  // namespace molt::cuda
