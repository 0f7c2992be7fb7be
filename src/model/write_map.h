// WriteMap: predicts what a token that has left the stream would write to a later layer's state.
//
// A linear map of the residual with which it left, scaled to a root mean square of 1, precomposed with the rows of the
// layer's in_proj that feed its state: so a prediction costs no more than the projection itself, and less where the map
// is the product of two thin matrices. Immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace molt {

class WriteMap {
 public:
  std::unique_ptr<PackedMatrix> thin;    // [rank, d_model], or null: then weight takes the residual itself
  std::unique_ptr<PackedMatrix> weight;  // [outputs, rank or d_model]
  Tensor bias;                           // [outputs]
  std::vector<std::int64_t> heads;       // those whose x is written, ascending; a block without heads leaves it empty

  /// predicted [W, outputs] from unit residuals x [W, d_model].
  void predict(const Backend& backend, Matrix<const float> x, Arena& arena, Matrix<float> predicted) const {
    const Arena::Scope scope(arena);
    if (thin != nullptr) {
      const Matrix<float> inner = arena.matrix(x.rows, thin->out_features());
      backend.matmul(x, *thin, nullptr, inner);
      x = inner;
    }
    backend.matmul(x, *weight, bias.as<float>(), predicted);
  }

  /// Of one prediction.
  double flops() const {
    const auto products = [](const PackedMatrix& m) {
      return 2.0 * static_cast<double>(m.out_features() * m.in_features());
    };
    return products(*weight) + (thin == nullptr ? 0.0 : products(*thin));
  }
};

}  // namespace molt
