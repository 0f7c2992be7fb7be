// LayerStream: the residual stream as layers take it that a backend runs as a whole (Backend::mamba1_layer,
// Backend::mamba2_layer).
#pragma once

#include "tensor/tensor.h"

namespace molt {

/// The residual stream that a layer reads and adds to. Where it stands: residual, or residual + h with `h_pending`.
struct LayerStream {
  Matrix<float> residual, h;  // [T, d_model]
  bool h_pending;
  bool leaves_h;  // whether what the layer adds is to be pending in h behind it; else it is added to residual
};

}  // namespace molt
