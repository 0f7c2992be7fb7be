// Model: a loaded checkpoint, ready to run.
//
//   molt::Model model = molt::Model::load("models/demo");
//
// A handle: copies share the weights, which are immutable. Thread-safe to read and to run from several Sessions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "molt/error.h"
#include "molt/tokenizer.h"
#include "molt/types.h"

namespace molt {

class ModelCore;

/// How the weight matrices are held. Activations and accumulation are float32. Matrices that a model folder holds
/// quantized stay so.
enum class WeightType {
  automatic,  // bf16 for checkpoints in bfloat16 and quantized ones (GGUF), f32 for all others
  f32,
  bf16,
  int8,  // rounded to 8 bits on loading, as `molt quantize` does by rounding to the nearest value
  int4,  // to 4 bits in groups of 64
};

/// How the SSM states are held between calls. In bf16 they are half as large, which makes decoding faster where they
/// are much of what it moves (Mamba-2); they are rounded at random after every call, in a way that depends on nothing
/// but the tokens seen: the same text yields the same bits. The convolutions' inputs beside them are float32.
enum class StateType { f32, bf16 };

/// "f32", "bf16".
std::string_view name_of(StateType type);

struct LoadOptions {
  WeightType weights = WeightType::automatic;
  StateType states = StateType::f32;  // of States for which no other is asked
  std::string backend = "cpu";        // or "cuda", or "reference", the slow oracle
  std::string tokenizer;              // a tokenizer.json (or GGUF file) to use instead of the model's own
};

class Model {
 public:
  /// Loads a Hugging Face folder (config.json with *.safetensors), a mamba_ssm one (config.json with
  /// pytorch_model.bin), or a GGUF file. Throws Error when anything about it is missing, broken or unsupported.
  static Model load(const std::string& path, const LoadOptions& options = {});

  /// A model of a published shape ("mamba2-130m", ...) with random weights, for measuring speed. Has no tokenizer.
  static Model random(const std::string& shape, std::uint64_t seed, const LoadOptions& options = {});

  /// Rows of the embedding: how many logits there are.
  std::int64_t vocab_size() const;

  /// Ids that may be generated: those that the model was made for and, if there is a tokenizer, that it knows.
  std::int64_t usable_tokens() const;

  TokenId bos() const;
  TokenId eos() const;

  /// Whether a text ends with this token: eos(), or another one that the model may end with.
  bool ends_text(TokenId id) const;

  /// How many tokens a sequence may have; 0: as many as it likes.
  std::int64_t max_tokens() const;

  bool has_tokenizer() const { return tokenizer_ != nullptr; }

  /// Throws Error, saying how to name one, when there is none.
  const Tokenizer& tokenizer() const;

  /// Where it was loaded from.
  const std::string& source() const { return source_; }

  /// The insides, for molt's own tools.
  const std::shared_ptr<const ModelCore>& core() const { return core_; }

 private:
  Model() = default;

  std::shared_ptr<const ModelCore> core_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string source_;
  std::string no_tokenizer_;  // why there is none
};

}  // namespace molt
