// Which Mamba-2 layers the CUDA backend takes as a whole, and the memory that this needs.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/shapes.h"

namespace molt::cuda {

/// Fewer rows are taken together only where they are a step (mamba2_step.h).
constexpr std::int64_t kLeastLayerRows = 17;

/// Whether layers of this shape, `rows` rows at a time, are taken together on a device of compute capability 9.0.
bool fits_mamba2_layer(const Mamba2Layer& layer, const LayerStream& stream, const ScanRows& rows);

/// The rows that kernels of a layer hand to each other, taken from `arena`.
struct LayerRoom {
  LayerRoom(const Mamba2Layer& layer, std::int64_t rows, Arena& arena);

  shapes::SsdShape shape;
  std::int64_t inner, conv;  // columns
  // bf16, without gaps:
  std::byte* zxbc;   // [T, inner + conv]
  std::byte* xbc;    // [T, conv], convolved
  std::byte* y;      // [T, inner]; first the normed stream
  Matrix<float> dt;  // [T, heads]
};

}  // namespace molt::cuda
