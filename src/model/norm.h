// Norm: the norm before a block or the head, with its weights: an RMS norm or, in models of that kind, a layer norm.
#pragma once

#include <string>

#include "model/architecture.h"
#include "model/block.h"
#include "model/weights.h"

namespace molt {

class Norm {
 public:
  Norm() = default;

  /// Loads `name`.weight [d_model] and, of a layer norm, `name`.bias.
  Norm(WeightLoader& weights, const std::string& name, const ModelConfig& config)
      : eps_(config.norm_eps), weight_(weights.placed_vector(name + ".weight", {config.d_model})) {
    if (config.layer_norm) bias_ = weights.placed_vector(name + ".bias", {config.d_model});
  }

  /// y [T, d_model] = the norm of x. y may be x.
  void forward(const Backend& backend, Matrix<const float> x, Matrix<float> y) const {
    if (is_rms()) {
      backend.rms_norm(x, weight_.as<float>(), eps_, y);
    } else {
      backend.layer_norm(x, weight_.as<float>(), bias_.as<float>(), eps_, y);
    }
  }

  /// residual += h; then y = the norm of residual. y may be h.
  void forward_sum(const Backend& backend, Matrix<float> residual, Matrix<const float> h, Matrix<float> y) const {
    if (is_rms()) {
      backend.add_rms_norm(residual, h, weight_.as<float>(), eps_, y);
    } else {
      backend.add_rows(residual, h, residual);
      forward(backend, residual, y);
    }
  }

  bool is_rms() const { return bias_.empty(); }

  /// As blocks and reductions take it, which know RMS norms alone.
  LayerNorm rms() const { return {weight_.as<float>(), eps_}; }

  const Tensor& weight() const { return weight_; }
  std::int64_t size() const { return weight_.size() + (is_rms() ? 0 : bias_.size()); }
  std::int64_t bytes() const { return size() * size_of(DType::f32); }

 private:
  float eps_ = 0;
  Tensor weight_;
  Tensor bias_;  // empty for an RMS norm
};

/// The name of the norm before block `layer`, in canonical naming.
inline std::string norm_name(std::int64_t layer) {
  return "backbone.layers." + std::to_string(layer) + ".norm";
}
inline constexpr const char* kFinalNorm = "backbone.norm_f";
inline constexpr const char* kPositions = "backbone.positions.weight";

}  // namespace molt
