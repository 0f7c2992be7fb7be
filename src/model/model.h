// ModelCore: the weights of a model and its forward pass. What public molt::Model is made of.
//
// Immutable after loading; forward() may run on several threads with different data and scratch memory.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/block.h"
#include "model/router.h"
#include "model/state_layout.h"

namespace molt {

/// The tokens of a ragged batch. Every id lies in [0, vocab_size).
struct Batch {
  std::span<const TokenId> ids;    // [T]
  Offsets offsets;                 // [S + 1]
  std::span<float* const> states;  // [S], whole states, laid out as state_layout() says
};

class ModelCore {
 public:
  /// Packs the weights of `spec` from `source` in `dtype`, f32 or bf16, or quantized: as the source holds them, or as
  /// `plan` says. Throws Error that lists wrong tensors.
  ModelCore(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend, DType dtype,
            std::optional<QuantizationPlan> plan = std::nullopt);

  const ModelConfig& config() const { return config_; }
  const StateLayout& state_layout() const { return state_layout_; }
  const Backend& backend() const { return *backend_; }
  /// Of the matrices that are not quantized.
  DType dtype() const { return dtype_; }
  /// The matrices' formats, for reports: "bf16"; "int4 in groups of 64, int8".
  const std::string& weight_formats() const { return weight_formats_; }
  bool quantized() const { return head_->dtype() == DType::u8; }

  /// The forward pass through all layers, which moves the states forward. The result, the stream behind the last block,
  /// lies in `arena`: every row of the batch, or those that `router` left in it.
  Stream forward(const Batch& batch, Arena& arena, Router* router = nullptr) const;

  /// The same from block `first` on, of a stream that stands before it.
  void forward_from(std::int64_t first, const Batch& batch, Stream& stream, Arena& arena, Router* router) const;

  /// logits [rows, vocab_size] of rows of the stream: final norm and head.
  void head(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena, Matrix<float> logits) const;

  /// The weight of the norm before a layer, [d_model].
  const Tensor& norm_weight(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)].norm; }

  /// One layer's mixer.
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

  /// The rows that only write, as the layer's block takes them: normed where no map stands before it.
  std::vector<WriteRows> norm_unmapped(std::span<const WriteRows> writes, const Layer& layer, Arena& arena) const;

  ModelConfig config_;
  std::shared_ptr<const Backend> backend_;
  DType dtype_;
  std::string weight_formats_;
  // [vocab_size, d_model]: in the file's own dtype and memory, only looked up; or, quantized, packed.
  Tensor embedding_;
  std::shared_ptr<const PackedMatrix> packed_embedding_;
  std::vector<Layer> layers_;
  Tensor final_norm_;                         // [d_model]
  std::shared_ptr<const PackedMatrix> head_;  // [vocab_size, d_model]
  StateLayout state_layout_;
  std::string fingerprint_;
};

}  // namespace molt
