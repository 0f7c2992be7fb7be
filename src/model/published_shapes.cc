#include "model/published_shapes.h"

#include <cstdint>
#include <map>

#include "base/fail.h"

namespace molt {
namespace {

struct PublishedShape {
  const char* model_type;
  std::int64_t d_model;
  std::int64_t n_layer;
  std::int64_t vocab_size;
};

// state-spaces/mamba-*, state-spaces/mamba2-*, tiiuae/falcon-mamba-7b.
const std::map<std::string, PublishedShape> kShapes = {
    {"mamba-130m", {"mamba", 768, 24, 50280}},
    {"mamba-370m", {"mamba", 1024, 48, 50280}},
    {"mamba-790m", {"mamba", 1536, 48, 50280}},
    {"mamba-1.4b", {"mamba", 2048, 48, 50280}},
    {"mamba-2.8b", {"mamba", 2560, 64, 50280}},
    {"mamba2-130m", {"mamba2", 768, 24, 50288}},
    {"mamba2-370m", {"mamba2", 1024, 48, 50288}},
    {"mamba2-780m", {"mamba2", 1536, 48, 50288}},
    {"mamba2-1.3b", {"mamba2", 2048, 48, 50288}},
    {"mamba2-2.7b", {"mamba2", 2560, 64, 50288}},
    {"falcon-mamba-7b", {"falcon_mamba", 4096, 64, 65024}},
};

struct PublishedTransformer {
  std::int64_t d_model;
  std::int64_t n_layer;
  std::int64_t vocab_size;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t d_inner;
  bool tied;
  std::int64_t max_tokens;
};

// HuggingFaceTB/SmolLM2-135M, TinyLlama/TinyLlama-1.1B, meta-llama/Llama-3.2-1B (without its scaling of positions,
// which costs nothing).
const std::map<std::string, PublishedTransformer> kTransformers = {
    {"smollm2-135m", {576, 30, 49152, 9, 3, 1536, true, 8192}},
    {"tinyllama-1.1b", {2048, 22, 32000, 32, 4, 5632, false, 2048}},
    {"llama-3.2-1b", {2048, 16, 128256, 32, 8, 8192, true, 131072}},
};

Json config_of(const PublishedTransformer& shape) {
  return {{"model_type", "llama"},
          {"hidden_size", shape.d_model},
          {"num_hidden_layers", shape.n_layer},
          {"vocab_size", shape.vocab_size},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.kv_heads},
          {"intermediate_size", shape.d_inner},
          {"tie_word_embeddings", shape.tied},
          {"max_position_embeddings", shape.max_tokens}};
}

}  // namespace

std::vector<std::string> published_shapes() {
  std::vector<std::string> names;
  for (const auto& [name, shape] : kShapes) names.push_back(name);
  for (const auto& [name, shape] : kTransformers) names.push_back(name);
  return names;
}

Json published_config(const std::string& name) {
  if (const auto it = kTransformers.find(name); it != kTransformers.end()) return config_of(it->second);
  const auto it = kShapes.find(name);
  if (it == kShapes.end()) fail("unknown shape '{}'; known: {}", name, fmt::join(published_shapes(), ", "));
  const PublishedShape& shape = it->second;
  Json config = {{"model_type", shape.model_type},
                 {"hidden_size", shape.d_model},
                 {"num_hidden_layers", shape.n_layer},
                 {"vocab_size", shape.vocab_size},
                 {"tie_word_embeddings", name != "falcon-mamba-7b"}};
  if (config["model_type"] == "mamba2") config["n_groups"] = 1;
  return config;
}

}  // namespace molt
