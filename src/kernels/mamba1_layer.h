// Mamba1Layer: a whole Mamba-1 layer, the norm before it included, for backends that take its ops together
// (Backend::mamba1_layer).
#pragma once

#include "kernels/layer_stream.h"
#include "tensor/tensor.h"

namespace molt {

class PackedMatrix;

/// What the ops of a layer take one by one (backend.h): pointers to vectors in the backend's memory. Di = A.cols,
/// N = A.rows, R = dt_proj's inputs.
struct Mamba1Layer {
  const float* norm;  // [d_model], before the block
  float norm_eps;
  const PackedMatrix* in_proj;  // x [Di], z [Di]
  Matrix<const float> conv_weight;
  const float* conv_bias;      // or null
  const PackedMatrix* x_proj;  // dt [R], B [N], C [N], of x behind the convolution
  bool norm_bcdt;              // whether these three are normed, without weights (Falcon-Mamba)
  float bcdt_norm_eps;
  const PackedMatrix* dt_proj;  // [Di]
  const float* dt_bias;         // [Di]; dt = softplus(its product + dt_bias)
  Matrix<const float> A;        // [N, Di]
  const float* D;               // [Di]
  const PackedMatrix* out_proj;
};

}  // namespace molt
