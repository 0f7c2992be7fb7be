// Router: decides which rows of a pass run which layer. The seam between the forward pass and token reduction.
//
// Without one, every row runs every layer. Used by one thread, for one pass.
#pragma once

#include "model/block.h"

namespace molt {

/// The residual stream between two blocks: residual + h is what the next norm reads. Rows of a sequence lie together.
struct Stream {
  Matrix<float> residual;  // [F, d_model]
  Matrix<float> h;         // [F, d_model]; before the first block it holds nothing
};

/// Rows that have left the stream and write to the layer, which sees residual + h and changes neither.
struct AbsentRows {
  Matrix<const float> residual;          // [W, d_model]
  Matrix<const float> h;                 // [W, d_model], or null
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

  /// Called after block `layer`, in order, with the stream before h is added. May take rows out of it.
  virtual void leave(std::int64_t layer, const Block& block, const ScanView& scan, Stream& stream) = 0;
};

}  // namespace molt
