// Linear: a packed weight matrix with its optional bias, as blocks hold them.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "model/block.h"
#include "model/weights.h"

namespace molt {

class Linear {
 public:
  /// Loads `name`.weight [out, in] and, where asked for, `name`.bias [out].
  Linear(WeightLoader& weights, const std::string& name, std::int64_t out, std::int64_t in, bool bias)
      : name_(name + ".weight"), out_(out), weight_(weights.matrix(name_, out, in)), observer_(weights.observer()) {
    if (bias) bias_ = weights.placed_vector(name + ".bias", {out});
  }

  /// y [T, out] = x [T, in] * W^T + bias.
  void forward(const Backend& backend, Matrix<const float> x, Matrix<float> y) const {
    if (observer_ != nullptr) observer_->input(name_, x);
    backend.matmul(x, *weight_, bias_.empty() ? nullptr : bias_.as<float>(), y);
  }

  /// The same with the result in scratch memory.
  Matrix<float> forward(const Backend& backend, Matrix<const float> x, Arena& arena) const {
    Matrix<float> y = arena.matrix(x.rows, out_);
    forward(backend, x, y);
    return y;
  }

  /// Outputs [first, first + y.cols) alone, of x [T, in], with the bias or without.
  void forward_part(const Backend& backend, Matrix<const float> x, std::int64_t first, Matrix<float> y,
                    bool with_bias = true) const {
    backend.matmul(x, *weight_, bias_.empty() || !with_bias ? nullptr : bias_.as<float>(), y, first);
  }

  /// Whether it is its weight and nothing else: no bias, nobody who looks at its inputs.
  bool is_plain() const { return bias_.empty() && observer_ == nullptr; }
  const PackedMatrix& weight() const { return *weight_; }

  void add_cost(BlockCost& cost) const {
    const auto elements = weight_->out_features() * weight_->in_features();
    cost.flops_per_token += 2.0 * static_cast<double>(elements);
    cost.parameters += elements + bias_size();
    cost.weight_bytes += weight_->bytes() + bias_size() * size_of(DType::f32);
  }

 private:
  std::int64_t bias_size() const { return bias_.empty() ? 0 : bias_.size(); }

  std::string name_;
  std::int64_t out_;
  std::unique_ptr<PackedMatrix> weight_;
  Tensor bias_;
  InputObserver* observer_;  // null but in a calibration pass
};

/// Adds a small float32 tensor to a block's cost.
inline void add_vector_cost(const Tensor& tensor, BlockCost& cost) {
  if (tensor.empty()) return;
  cost.parameters += tensor.size();
  cost.weight_bytes += tensor.bytes();
}

}  // namespace molt
