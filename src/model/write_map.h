// WriteMap: predicts what a token that has left the stream would write to a later layer's state.
//
// A linear map of the residual with which it left, scaled to a root mean square of 1, precomposed with the rows of the
// layer's in_proj that feed its state: so a prediction costs no more than the projection itself. Immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "tensor/tensor.h"

namespace molt {

class WriteMap {
 public:
  std::unique_ptr<PackedMatrix> weight;  // [outputs, d_model]
  Tensor bias;                           // [outputs]
  std::vector<std::int64_t> heads;       // those whose x is written, ascending; a block without heads leaves it empty

  /// predicted [W, outputs] from unit residuals x [W, d_model].
  void predict(const Backend& backend, Matrix<const float> x, Matrix<float> predicted) const {
    backend.matmul(x, *weight, bias.as<float>(), predicted);
  }

  /// Of one prediction.
  double flops() const { return 2.0 * static_cast<double>(weight->out_features() * weight->in_features()); }
};

}  // namespace molt
