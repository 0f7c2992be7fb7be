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
#include "model/write_map.h"
#include "tensor/arena.h"

namespace molt {

/// One named part of a layer's state.
struct StatePart {
  std::string name;  // "conv", "ssm"
  Shape shape;
  bool is_ssm = false;  // may be held in bfloat16; all else is float32

  DType dtype(DType ssm) const { return is_ssm ? ssm : DType::f32; }

  /// Bytes that it takes in a state: its elements, rounded up so that each part starts on a cache line.
  std::int64_t bytes(DType ssm) const { return (element_count(shape) * size_of(dtype(ssm)) + 63) / 64 * 64; }
};

/// One layer's state of each sequence: the parts of state_parts(), one after another, and the keys and values.
struct LayerStates {
  std::span<std::byte* const> data;              // [S], aligned as floats at least
  DType ssm = DType::f32;                        // f32 or bf16
  std::span<const std::uint32_t> rounding = {};  // [S], keys of this pass's random rounding; only for bf16
  std::span<const KvSequence> kv = {};        // [S], with room for the pass's tokens; only for blocks with kv_shape()
  const std::uint32_t* keys_there = nullptr;  // [S] in the backend's memory, instead of `rounding`; or null
};

/// Rows that only write: they move the state, and get no output.
struct WriteRows {
  Matrix<const float> x;                 // [W, d_model], normed: as the block's x, for a map without the norm's weight
  const WriteMap* map;                   // null: the block's own projection
  std::span<const std::int64_t> places;  // [W], among the rows that take part, ascending
};

/// What a forward pass of one layer works on: T rows that take part, F of them in full, the others only writing.
struct BlockInput {
  Matrix<const float> x;                    // [F, d_model], normed
  Offsets offsets;                          // [S + 1], of the T rows
  LayerStates states;                       // of the S sequences
  std::span<const std::int64_t> full = {};  // [F], places of x's rows among the T, ascending; empty when nothing writes
  std::span<const WriteRows> writes = {};
  const std::uint8_t* wanted = nullptr;  // [T], 1 where a row runs in full; null when nothing writes
  const float* multiplicity = nullptr;   // [T], or null for ones: how many steps' decay a row stands for

  std::int64_t rows() const { return offsets.back(); }
  bool has_writes() const { return !writes.empty(); }
};

/// The norm before a block.
struct LayerNorm {
  const float* weight;  // [d_model]
  float eps;
};

/// Which sides of a scan somebody looks at.
struct ScanSides {
  bool output = false;  // y
  bool input = false;   // x, dt, B

  bool any() const { return output || input; }
};

/// What a block's scan wrote and read, for those who look at tokens. A side that nobody looks at has null matrices.
struct ScanView {
  Matrix<float> y = {};   // [F, d_inner]: with D*x, before the gate
  Matrix<float> x = {};   // [T, d_inner]
  Matrix<float> dt = {};  // [T, heads], or [T, d_inner]
  Matrix<float> B = {};   // [T, groups * d_state]

  bool has_output() const { return y.data != nullptr; }
  bool has_input() const { return x.data != nullptr; }
  bool has(ScanSides sides) const { return (has_output() || !sides.output) && (has_input() || !sides.input); }

  /// Without the sides that are not among these.
  ScanView only(ScanSides sides) const {
    ScanView part = *this;
    if (!sides.output) part.y = {};
    if (!sides.input) part.x = part.dt = part.B = {};
    return part;
  }

  /// Of rows [begin, end) of the T, rows [full_begin, full_end) of the F.
  ScanView rows(std::int64_t begin, std::int64_t end, std::int64_t full_begin, std::int64_t full_end) const {
    ScanView part;
    if (has_output()) part.y = y.row_range(full_begin, full_end);
    if (has_input()) {
      part.x = x.row_range(begin, end);
      part.dt = dt.row_range(begin, end);
      part.B = B.row_range(begin, end);
    }
    return part;
  }
};

/// What a layer costs and holds.
struct BlockCost {
  double flops_per_token = 0;  // multiply-adds count 2
  double flops_per_pair = 0;   // besides, for each token that a token sees: itself and, in attention, all before it
  std::int64_t parameters = 0;
  std::int64_t weight_bytes = 0;  // as packed
};

class Block {
 public:
  virtual ~Block() = default;

  /// "mamba", "mamba2", "attention", "mlp".
  virtual std::string_view kind() const = 0;

  /// The parts of a sequence's state in this layer, in the order in which they lie: what does not grow with its tokens.
  virtual std::vector<StatePart> state_parts() const = 0;

  /// What it keeps of each token besides; nothing but for attention.
  virtual KvShape kv_shape() const { return {}; }

  virtual BlockCost cost() const = 0;

  /// h [F, d_model] = the block's output; states are read and moved forward. The sides that `scan` has, scan_room() of
  /// these rows or the part of a larger one that is theirs, are filled. Scratch memory comes from `arena`, and is not
  /// given back: the caller has a Scope around the call.
  virtual void forward(const Backend& backend, const BlockInput& input, Arena& arena, Matrix<float> h,
                       const ScanView& scan = {}) const = 0;

  /// The norm before the block and the block, on a stream: for blocks and backends that take these together where all
  /// rows run in full (Backend::mamba1_layer, mamba2_layer). False, and nothing is done, elsewhere. input.x is not
  /// used. `scan`: as of forward().
  virtual bool forward_layer(const Backend& /*backend*/, const LayerNorm& /*norm*/, const LayerStream& /*stream*/,
                             const BlockInput& /*input*/, Arena& /*arena*/, const ScanView& /*scan*/) const {
    return false;
  }

  /// Whether it has a scan, on whose states and heads token reduction works. The members below are only for such blocks
  /// (blocks/scanless.h).
  virtual bool has_scan() const { return true; }

  /// Memory for these sides of the scan of `rows` rows, `full` of them in full. Without a scan: null matrices.
  virtual ScanView scan_room(ScanSides sides, std::int64_t rows, std::int64_t full, Arena& arena) const = 0;

  /// FLOPs of a row that only writes, through `map` or, where it is null, the block's own projection.
  virtual double write_flops(const WriteMap* map) const = 0;

  /// Share of each row [T] in the state behind its sequence's last row: design of Site::contribution().
  virtual void contribution(const Backend& backend, const ScanView& scan, Offsets offsets, const float* multiplicity,
                            float* c) const = 0;

  /// Heads whose writes can be chosen one by one; 0 for a block without heads.
  virtual std::int64_t heads() const = 0;

  /// Outputs of a write map that writes `heads`.
  virtual std::int64_t write_outputs(std::span<const std::int64_t> heads) const = 0;

  /// What the block's own projection feeds its state with for `heads` (ascending; all channels of a block without
  /// heads), with its bias or without: what a WriteMap predicts. x [T, d_model], normed; result in `arena`.
  virtual Matrix<float> write_inputs(const Backend& backend, Matrix<const float> x, std::span<const std::int64_t> heads,
                                     bool with_bias, Arena& arena) const = 0;

  /// How fast the state of each head decays a step, the mean of dt |A| over the rows of dt; empty for a block without
  /// heads.
  virtual std::vector<double> decay_rates(const Backend& backend, Matrix<const float> dt) const = 0;
};

}  // namespace molt
