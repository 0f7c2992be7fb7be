// The selective scan over many rows: in float32 as the op is, and in bfloat16 as a Mamba-1 layer takes it, with
// softplus before and the gate behind.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/scan_cut.h"

namespace molt::cuda {

/// What the scan takes. E: float or __nv_bfloat16. x, dt, z, y: aligned to 16 bytes, their strides and columns
/// multiples of as much.
template <class E>
struct RowScan {
  Rows<const E> x, dt;        // [T, Di]
  Rows<const E> z;            // [T, Di], the gate; of bfloat16 alone
  Rows<const E> B, C;         // [T, N]
  const float* dt_bias;       // [Di], or null: dt is what it is
  Rows<const float> A;        // [N, Di]
  const float* D;             // [Di], or null for zeros
  const float* multiplicity;  // [T] on the device, or null
  Rows<E> y;                  // [T, Di]; may be x, dt or z
  int channels, states;
};

/// For every sequence, states as of Backend::selective_scan: in float32 that; in bfloat16
/// y = selective_scan(x, softplus(dt + dt_bias), A, B, C, D) * silu(z).
template <class E>
void row_scan(Context& context, const RowScan<E>& scan, const ScanRows& rows);

}  // namespace molt::cuda
