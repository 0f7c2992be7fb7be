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

}  // namespace

std::vector<std::string> published_shapes() {
  std::vector<std::string> names;
  for (const auto& [name, shape] : kShapes) names.push_back(name);
  return names;
}

Json published_config(const std::string& name) {
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
