// ModelCore: the weights of a model and its forward pass. What public molt::Model is made of.
//
// Immutable after loading; forward() may run on several threads with different data and scratch memory.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/block.h"
#include "model/state_layout.h"

namespace molt {

/// The tokens of a ragged batch. Every id lies in [0, vocab_size).
struct Batch {
  std::span<const TokenId> ids;    // [T]
  Offsets offsets;                 // [S + 1]
  std::span<float* const> states;  // [S], whole states, laid out as state_layout() says
};

/// The residual stream behind the last block, in an arena: [T, d_model] each, still to be added.
struct Stream {
  Matrix<float> residual;
  Matrix<float> h;
};

class ModelCore {
 public:
  /// Called after each block with its input residual and its output, [T, d_model] each: what tests and reducers look
  /// at.
  using Observer = std::function<void(std::int64_t layer, Matrix<const float> residual, Matrix<const float> h)>;

  /// Packs the weights of `spec` from `source` in `dtype`, f32 or bf16. Throws Error that lists wrong tensors.
  ModelCore(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend, DType dtype);

  const ModelConfig& config() const { return config_; }
  const StateLayout& state_layout() const { return state_layout_; }
  const Backend& backend() const { return *backend_; }
  DType dtype() const { return dtype_; }

  /// The forward pass through all layers, which moves the states forward. The result lies in `arena`.
  Stream forward(const Batch& batch, Arena& arena, const Observer* observer = nullptr) const;

  /// logits [rows, vocab_size] of rows of the stream: final norm and head.
  void head(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena, Matrix<float> logits) const;

  /// One layer of kind and cost.
  const Block& block(std::int64_t layer) const { return *layers_[static_cast<std::size_t>(layer)].block; }

  /// The whole model, head included.
  BlockCost cost() const;

  /// A hash of configuration, names, shapes and samples of the weights: tells states of one model from another's.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  struct Layer {
    Tensor norm;  // [d_model]
    std::unique_ptr<Block> block;
  };

  ModelConfig config_;
  std::shared_ptr<const Backend> backend_;
  DType dtype_;
  Tensor embedding_;  // [vocab_size, d_model], in the file's own dtype and memory: only looked up
  std::vector<Layer> layers_;
  Tensor final_norm_;                   // [d_model]
  std::unique_ptr<PackedMatrix> head_;  // [vocab_size, d_model]
  StateLayout state_layout_;
  std::string fingerprint_;
};

}  // namespace molt
