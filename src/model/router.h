// Router: decides which rows of a pass run which layer. The seam between the forward pass and token reduction.
//
// Without one, every row runs every layer. Used by one thread, for one pass.
#pragma once

#include "model/block.h"

namespace molt {

/// The residual stream between two blocks: residual + h is what the next norm reads, or the residual alone. Rows of a
/// sequence lie together.
struct Stream {
  Matrix<float> residual;  // [F, d_model]
  Matrix<float> h;         // [F, d_model]: what the block before adds, or memory for what the next one does
  bool h_pending = false;  // whether it holds that: it is added already otherwise, or there is nothing to add
};

/// Rows that have left the stream and write to the layer, which does not change them.
struct AbsentRows {
  Matrix<const float> residual;          // [W, d_model]
  const WriteMap* map;                   // null: the block's own projection
  std::span<const std::int64_t> places;  // [W], among the rows that take part, ascending
};

/// Who takes part in a layer. The memory behind it is the router's and lasts until the layer is done.
struct LayerRows {
  Offsets offsets;                          // [S + 1], of all rows that take part
  std::span<const std::int64_t> full = {};  // see BlockInput
  std::span<const AbsentRows> writes = {};
  const std::uint8_t* wanted = nullptr;
  const float* multiplicity = nullptr;
};

class Router {
 public:
  virtual ~Router() = default;

  /// Called before block `layer`, in order. May take rows out of the stream and put rows into it (never more than the
  /// pass began with; the memory has room for those), and says who takes part.
  virtual LayerRows enter(std::int64_t layer, Stream& stream) = 0;

  /// What leave() wants to see of the scan of `layer`.
  virtual ScanSides looks_at(std::int64_t layer) const = 0;

  /// Whether leave() wants to see what `layer` adds to the stream, pending in h; else it may have been added.
  virtual bool looks_at_h(std::int64_t /*layer*/) const { return true; }

  /// Called after block `layer`, in order. May take rows out of the stream, and add h to it.
  virtual void leave(std::int64_t layer, const Block& block, const ScanView& scan, Stream& stream) = 0;
};

}  // namespace molt
