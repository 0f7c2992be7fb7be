// Block: one layer's mixer, the seam between the forward pass and the mathematics of an architecture.
//
// A block maps the normed residual [T, d_model] to what is added to the residual stream, and carries each sequence's
// state forward. It knows its weights and the table of ops, but no other layer, no norm around it, no batch policy.
// Immutable after loading; forward() may run on several threads with different data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "tensor/arena.h"

namespace molt {

/// One named part of a layer's state, float32.
struct StatePart {
  std::string name;  // "conv", "ssm"
  Shape shape;
};

/// What a forward pass of one layer works on.
struct BlockInput {
  Matrix<const float> x;           // [T, d_model], normed
  Offsets offsets;                 // [S + 1], rows of each sequence
  std::span<float* const> states;  // [S], this layer's state of each sequence: the parts of state_parts(), in order
  const float* multiplicity;       // [T], or null for ones: how many steps' decay a row stands for
};

/// What a layer costs and holds.
struct BlockCost {
  double flops_per_token = 0;  // multiply-adds count 2
  std::int64_t parameters = 0;
  std::int64_t weight_bytes = 0;  // as packed
};

class Block {
 public:
  virtual ~Block() = default;

  /// "mamba", "mamba2".
  virtual std::string_view kind() const = 0;

  /// The parts of a sequence's state in this layer. They lie one after another, each padded to part_floats().
  virtual std::vector<StatePart> state_parts() const = 0;

  virtual BlockCost cost() const = 0;

  /// h [T, d_model] = the block's output; states are read and moved forward. Scratch memory comes from `arena`.
  virtual void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h) const = 0;
};

/// Floats that a part takes in a state: its elements, rounded up so that each part starts on a cache line.
inline std::int64_t part_floats(const StatePart& part) {
  return (element_count(part.shape) + 15) / 16 * 16;
}

}  // namespace molt
