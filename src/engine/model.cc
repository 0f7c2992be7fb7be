// The public Model: puts the parts of a model together.
#include "molt/model.h"

#include <algorithm>

#include "base/fail.h"
#include "model/model.h"
#include "model/model_files.h"
#include "model/published_shapes.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

DType packed_dtype(WeightType asked, DType suitable) {
  switch (asked) {
    case WeightType::f32: return DType::f32;
    case WeightType::bf16: return DType::bf16;
    default: break;
  }
  return suitable;
}

DType state_dtype(StateType asked) {
  return asked == StateType::bf16 ? DType::bf16 : DType::f32;
}

std::optional<QuantizationPlan> plan_for(WeightType asked) {
  switch (asked) {
    case WeightType::int8: return QuantizationPlan{{8, 0}};
    case WeightType::int4: return QuantizationPlan{{4, 64}};
    default: return std::nullopt;
  }
}

}  // namespace

std::string_view name_of(StateType type) {
  return name_of(state_dtype(type));
}

Model Model::load(const std::string& path, const LoadOptions& options) {
  ModelFiles files = open_model(path);
  Model model;
  model.source_ = path;
  model.no_tokenizer_ = files.no_tokenizer;
  const std::string& tokenizer = options.tokenizer.empty() ? files.tokenizer : options.tokenizer;
  if (!tokenizer.empty()) model.tokenizer_ = std::make_shared<const Tokenizer>(Tokenizer::load(tokenizer));
  model.core_ = std::make_shared<const ModelCore>(std::move(files.spec), *files.weights, make_backend(options.backend),
                                                  packed_dtype(options.weights, files.dtype),
                                                  state_dtype(options.states), plan_for(options.weights));
  return model;
}

Model Model::random(const std::string& shape, std::uint64_t seed, const LoadOptions& options) {
  const std::string where = "shape " + shape;
  Model model;
  model.source_ = where;
  model.no_tokenizer_ = "random weights have no tokenizer";
  model.core_ = std::make_shared<const ModelCore>(
      read_model_spec(published_config(shape), where, false), RandomWeights(where, seed), make_backend(options.backend),
      packed_dtype(options.weights, DType::bf16), state_dtype(options.states), plan_for(options.weights));
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

bool Model::ends_text(TokenId id) const {
  const ModelConfig& config = core_->config();
  return id == config.eos || std::find(config.other_eos.begin(), config.other_eos.end(), id) != config.other_eos.end();
}

std::int64_t Model::max_tokens() const {
  return core_->config().max_tokens;
}

const Tokenizer& Model::tokenizer() const {
  if (tokenizer_ == nullptr) {
    fail("{}: {}; name a tokenizer.json with --tokenizer FILE (published Mamba models use GPT-NeoX's)", source_,
         no_tokenizer_);
  }
  return *tokenizer_;
}

}  // namespace molt
