// A Mamba-1 layer when each sequence takes one token: decoding.
#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/mamba1_layer.h"

namespace molt::cuda {

/// Inputs of dt_proj, at the most.
constexpr std::int64_t kMostStepRank = 256;

/// CudaBackend::mamba1_layer of a step (is_step(), mamba2_step.h).
void mamba1_step(const Context& context, const Mamba1Layer& layer, const LayerStream& stream,
                 std::span<float* const> conv_states, const ScanRows& rows, const Mamba1StepRoom& room);

}  // namespace molt::cuda
