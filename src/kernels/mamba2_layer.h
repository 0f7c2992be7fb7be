// Mamba2Layer: a whole Mamba-2 layer, the norm before it included, for backends that take its ops together
// (Backend::mamba2_layer).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/layer_stream.h"
#include "tensor/tensor.h"

namespace molt {

class PackedMatrix;

/// What the ops of a layer take one by one (backend.h): pointers to vectors in the backend's memory. Di = D.size().
struct Mamba2Layer {
  const float* norm;  // [d_model], before the block
  float norm_eps;
  const PackedMatrix* in_proj;  // z [Di], x [Di], B [G*N], C [G*N], dt [H]
  Matrix<const float> conv_weight;
  const float* conv_bias;  // or null
  const float* dt_bias;
  float dt_min, dt_max;
  std::span<const float> A;  // [H]
  std::int64_t groups;
  std::span<const float> D;  // [Di]
  const float* gate_norm;    // [Di]
  float gate_norm_eps;
  std::int64_t gate_norm_group;
  bool norm_before_gate;
  const PackedMatrix* out_proj;
};

}  // namespace molt
