// The two ways in which the CUDA backend runs the state space dual scan: row by row (ssd_steps.cu), and in chunks on
// tensor cores (ssd_chunks.cu).
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sequences.cuh"
#include "kernels/shapes.h"

namespace molt::cuda {

struct Ssd {
  Rows<const float> x, dt;
  const float* A;
  Rows<const float> B, C;
  const float* D;              // or null
  const float* multiplicity;   // on the device, or null
  const std::uint8_t* wanted;  // likewise
  Rows<float> y;
  int heads, channels, states, groups;

  __host__ __device__ int group_column(int h) const { return h / (heads / groups) * states; }
  /// Elements before head h's state.
  __host__ __device__ std::int64_t state_offset(int h) const {
    return static_cast<std::int64_t>(h) * states * channels;
  }
};

/// Whether there is a kernel for steps of so many states.
bool can_step(int states);

/// Runs sequences of no more than `most_rows` rows, row by row, exact to rounding.
void ssd_steps(const Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, int most_rows);

/// Whether there is a kernel for chunks of this shape on this device.
bool can_chunk(const Context& context, const Ssd& ssd, bool narrow);

/// Runs sequences of more than `least_rows` rows in chunks. `narrow`: x, B, C and what is multiplied by them are
/// rounded to bfloat16; else all is as exact as float32 (each product is three of TF32).
void ssd_chunks(Context& context, const SequenceTable& table, const Ssd& ssd, bool rounded, bool narrow,
                int least_rows);

}  // namespace molt::cuda
