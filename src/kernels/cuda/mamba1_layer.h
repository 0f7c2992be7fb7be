// Which Mamba-1 layers the CUDA backend takes as a whole, and the memory that this needs.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace molt::cuda {

/// Whether layers of this shape, with these rows at a time, are taken together on a device of compute capability 9.0.
bool fits_mamba1_layer(const Mamba1Layer& layer, const LayerStream& stream, const ScanRows& rows);

/// The rows that kernels of a layer hand to each other, taken from `arena`.
struct Mamba1Room {
  Mamba1Room(const Mamba1Layer& layer, std::int64_t rows, Arena& arena);

  std::int64_t inner, low_columns;  // columns; the latter a multiple of 8
  // bf16, without gaps:
  std::byte* xz;   // [T, 2 * inner]
  std::byte* x;    // [T, inner], convolved
  std::byte* low;  // [T, low_columns]: dt before its product, B, C
  std::byte* y;    // [T, the wider of inner and d_model]: the normed stream, then dt, then y
};

/// What the kernels of a step hand to each other.
struct Mamba1StepRoom {
  Mamba1StepRoom(const Mamba1Layer& layer, std::int64_t rows, Arena& arena);

  // bf16 [16, ...]:
  std::byte* normed;  // d_model
  std::byte* x;       // inner, convolved
  std::byte* gated;   // inner
  std::byte* dt_low;  // dt_proj's inputs; where its weights are coded
  // f32:
  Matrix<float> xz;   // [T, 2 * inner]
  Matrix<float> low;  // [T, dt_proj's inputs + 2 * N]
  Matrix<float> dt;   // [T, inner]; where dt_proj's weights are coded
};

}  // namespace molt::cuda
