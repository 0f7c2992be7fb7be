// A Mamba-2 layer when each sequence takes one token: decoding.
#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/mamba2_layer.h"

namespace molt::cuda {

/// Sequences at a time, at the most.
constexpr std::int64_t kMostStepSequences = 16;

/// Whether `rows` are one of each sequence, no more than that many.
bool is_step(const ScanRows& rows);

/// Whether a layer that fits_mamba2_layer() has kernels for that.
bool fits_mamba2_step(const Mamba2Layer& layer);

/// What the kernels of a step hand to each other.
struct StepRoom {
  StepRoom(const Mamba2Layer& layer, std::int64_t rows, Arena& arena);

  std::byte* normed;     // bf16 [16, d_model]
  std::byte* gated;      // bf16 [16, inner]
  Matrix<float> zxbcdt;  // [T, inner + conv + heads]
  float* squares;        // [T, parts]
};

/// CudaBackend::mamba2_layer of a step.
void mamba2_step(const Context& context, const Mamba2Layer& layer, const LayerStream& stream,
                 std::span<float* const> conv_states, const ScanRows& rows, const StepRoom& room);

}  // namespace molt::cuda
