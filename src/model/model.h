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
#include "model/norm.h"
#include "model/router.h"
#include "model/row_slices.h"
#include "model/state_layout.h"

namespace molt {

/// The tokens of a ragged batch. Every id lies in [0, vocab_size).
struct Batch {
  std::span<const TokenId> ids;        // [T]
  Offsets offsets;                     // [S + 1]
  std::span<std::byte* const> states;  // [S], whole states in the backend's memory; state_layout(ssm) is theirs
  DType ssm = DType::f32;              // precision of all of them
  // [S], tokens that each has seen; only for bf16, the rounding's seed, and for models with attention or positions
  std::span<const std::int64_t> seen = {};
  std::span<const std::span<std::byte* const>> kv = {};  // [S], blocks of keys and values (KvBlocks) with room for T
  // [n_layer, S] in the backend's memory, or null: rounding_key() of each, which `seen` is not asked for then
  const std::uint32_t* keys = nullptr;
};

class ModelCore {
 public:
  /// Packs the weights of `spec` from `source` in `dtype`, f32 or bf16, or quantized: as the source holds them, or as
  /// `plan` says. `ssm`, f32 or bf16: what state_dtype() says. Throws Error that lists wrong tensors.
  ModelCore(ModelSpec spec, const WeightSource& source, std::shared_ptr<const Backend> backend, DType dtype,
            DType ssm = DType::f32, std::optional<QuantizationPlan> plan = std::nullopt);

  const ModelConfig& config() const { return config_; }

  /// Of states whose SSM parts are held in `ssm`, f32 or bf16.
  const StateLayout& state_layout(DType ssm = DType::f32) const { return ssm == DType::f32 ? wide_ : rounded_; }

  /// The precision of states for which no other is asked.
  DType state_dtype() const { return state_dtype_; }

  /// The key by which a state in bfloat16 that has seen so many tokens is rounded behind a layer.
  std::uint32_t rounding_key(std::int64_t seen, std::int64_t layer) const;

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

  /// logits [rows, vocab_size], in the backend's memory, of rows of the stream: final norm and head.
  void head_there(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena, Matrix<float> logits) const;

  /// logits [rows, vocab_size], on the host, of rows of the stream.
  void head(const Stream& stream, std::span<const std::int64_t> rows, Arena& arena, Matrix<float> logits) const;

  /// The weight of the norm before a layer, [d_model]; like all of the model in the memory of its backend.
  const Tensor& norm_weight(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)].norm.weight(); }

  /// One layer's mixer.
  const Block& block(std::int64_t layer) const { return *layers_[static_cast<std::size_t>(layer)].block; }

  /// The first block that has no scan, by which token reduction goes; nothing when all have one.
  std::optional<std::int64_t> first_without_scan() const;

  /// The whole model, head included.
  BlockCost cost() const;

  /// A hash of configuration, names, shapes and samples of the weights: tells states of one model from another's.
  const std::string& fingerprint() const { return fingerprint_; }

  /// How the weights' source stored them, by type.
  const std::map<std::string, StoredType>& stored_types() const { return stored_types_; }

 private:
  struct Layer {
    Norm norm;
    std::unique_ptr<Block> block;
  };

  /// What a layer keeps of the sequences of a slice.
  struct LayerSequences {
    std::vector<std::byte*> states;
    std::vector<std::uint32_t> rounding;  // the keys by which states are rounded behind the layer; empty in f32
    const std::uint32_t* keys = nullptr;  // or where they lie in the backend's memory
    std::vector<KvSequence> kv;           // where keys and values lie; empty for a layer without
  };
  LayerSequences layer_sequences(const Batch& batch, std::int64_t layer, const RowSlice& slice) const;

  /// y [T, d_model] = the learned positions of the batch's tokens.
  void embed_positions(const Batch& batch, Matrix<float> y) const;

  /// One layer of a pass on the slice's rows: the norm in front of it, which adds a pending h to the residual, and its
  /// block. `whole`: of all rows. Returns whether h is pending behind it.
  bool forward_slice(std::int64_t i, const Batch& batch, const LayerRows& rows, const RowSlice& slice,
                     const LayerStream& whole, const ScanView& scan, Arena& arena) const;

  /// The rows that only write, as the layer's block takes them.
  std::vector<WriteRows> norm_writes(std::span<const AbsentRows> writes, const Norm& of_layer, Arena& arena) const;

  ModelConfig config_;
  std::shared_ptr<const Backend> backend_;
  DType dtype_;
  std::string weight_formats_;
  // [vocab_size, d_model]: in the file's own dtype and, on the host, memory, only looked up; or packed: quantized, or
  // the head's where that serves.
  Tensor embedding_;
  std::shared_ptr<const PackedMatrix> packed_embedding_;
  std::vector<Layer> layers_;
  Tensor positions_;  // [max_tokens + position_offset, d_model], only looked up; empty for models without
  Norm final_norm_;
  std::shared_ptr<const PackedMatrix> head_;  // [vocab_size, d_model]
  DType state_dtype_;
  StateLayout wide_{.ssm = DType::f32};
  StateLayout rounded_{.ssm = DType::bf16};
  std::string fingerprint_;
  std::map<std::string, StoredType> stored_types_;
};

}  // namespace molt
