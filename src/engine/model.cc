// The public Model: finds the files of a model folder and puts the parts together.
#include "molt/model.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/fail.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "model/model.h"
#include "model/published_shapes.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

DType packed_dtype(WeightType asked, DType stored) {
  switch (asked) {
    case WeightType::f32: return DType::f32;
    case WeightType::bf16: return DType::bf16;
    default: break;
  }
  return stored == DType::bf16 ? DType::bf16 : DType::f32;
}

std::optional<QuantizationPlan> plan_for(WeightType asked) {
  switch (asked) {
    case WeightType::int8: return QuantizationPlan{{8, 0}};
    case WeightType::int4: return QuantizationPlan{{4, 64}};
    default: return std::nullopt;
  }
}

/// The dtype that most of a checkpoint's bytes have, but for quantized matrices.
DType main_dtype(const Checkpoint& checkpoint) {
  std::map<DType, std::int64_t> bytes;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (!is_quantized_part(name)) bytes[tensor.dtype()] += tensor.bytes();
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::f32 : most->first;
}

}  // namespace

Model Model::load(const std::string& folder, const LoadOptions& options) {
  Checkpoint checkpoint = Checkpoint::open(folder);
  const std::string config_path = (fs::path(checkpoint.folder()) / "config.json").string();
  std::error_code error;  // other faults than absence are met, and named, on reading
  if (!fs::exists(fs::status(config_path, error))) {
    fail("{}: no config.json beside the weights; a model folder needs one", checkpoint.folder());
  }
  const bool untied_head =
      checkpoint.find("lm_head.weight") != nullptr || checkpoint.find("lm_head.weight.codes") != nullptr;
  ModelSpec spec = read_model_spec(read_json_file(config_path), config_path, untied_head);
  const DType dtype = packed_dtype(options.weights, main_dtype(checkpoint));
  Model model;
  model.source_ = folder;
  const std::string tokenizer_path =
      options.tokenizer.empty() ? (fs::path(checkpoint.folder()) / "tokenizer.json").string() : options.tokenizer;
  if (!options.tokenizer.empty() || fs::exists(fs::status(tokenizer_path, error))) {
    model.tokenizer_ = std::make_shared<const Tokenizer>(Tokenizer::load(tokenizer_path));
  }
  model.core_ = std::make_shared<const ModelCore>(std::move(spec), CheckpointWeights(std::move(checkpoint)),
                                                  make_backend(options.backend), dtype, plan_for(options.weights));
  return model;
}

Model Model::random(const std::string& shape, std::uint64_t seed, const LoadOptions& options) {
  const std::string where = "shape " + shape;
  Model model;
  model.source_ = where;
  model.core_ = std::make_shared<const ModelCore>(
      read_model_spec(published_config(shape), where, false), RandomWeights(where, seed), make_backend(options.backend),
      packed_dtype(options.weights, DType::bf16), plan_for(options.weights));
  return model;
}

std::int64_t Model::vocab_size() const {
  return core_->config().vocab_size;
}

std::int64_t Model::usable_tokens() const {
  const std::int64_t known = core_->config().n_tokens;
  return tokenizer_ == nullptr ? known : std::min(known, tokenizer_->vocab_size());
}

TokenId Model::bos() const {
  return core_->config().bos;
}

TokenId Model::eos() const {
  return core_->config().eos;
}

const Tokenizer& Model::tokenizer() const {
  if (tokenizer_ == nullptr) {
    fail("{}: has no tokenizer.json; name one with --tokenizer FILE (published Mamba models use GPT-NeoX's)", source_);
  }
  return *tokenizer_;
}

}  // namespace molt
