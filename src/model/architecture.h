// Architecture: a file format's configuration and tensor names, turned into blocks. Adding one is adding a file to
// archs/ that registers it:
//
//   namespace { const Registration<Architecture> registration{"mamba2", {&matches, &read}}; }
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/weights.h"
#include "molt/types.h"

namespace molt {

/// What every model has, whatever its blocks.
struct ModelConfig {
  std::string architecture;  // the registered name: "mamba", "mamba2", "falcon_mamba", ...
  std::int64_t d_model = 0;
  std::int64_t n_layer = 0;     // blocks; a transformer's layer is two of them, attention and MLP
  std::int64_t vocab_size = 0;  // rows of the embedding
  std::int64_t n_tokens = 0;    // of those, how many stand for tokens; the others are padding
  float norm_eps = 1e-5F;
  bool layer_norm = false;  // the norms are layer norms with weight and bias, not RMS norms
  bool tie_embeddings = true;
  TokenId bos = 0;
  TokenId eos = 0;
  std::vector<TokenId> other_eos = {};  // that end a text as well
  std::int64_t max_tokens = 0;          // how long a sequence may become; 0: as long as it likes
  // Token i of a sequence adds row i + this of a table of learned positions, max_tokens + this rows, to its embedding;
  // none: no such table.
  std::optional<std::int64_t> position_offset = {};
  std::string details = {};  // what else tells models with the same weights apart: part of the fingerprint
};

/// A configuration, understood.
struct ModelSpec {
  ModelConfig config;

  /// From the canonical (Hugging Face) name of a tensor to the file's.
  WeightLoader::Naming naming;

  /// Loads the mixer of layer `index`.
  std::function<std::unique_ptr<Block>(std::int64_t index, WeightLoader& weights)> make_block;
};

struct Architecture {
  /// Whether config.json describes a model of this architecture.
  bool (*matches)(const nlohmann::json& config);

  /// Reads it. `where` names the file for messages. `untied_head`: whether the checkpoint holds lm_head.weight, which
  /// decides when the configuration does not. Throws Error for keys that are missing, wrong or not supported.
  ModelSpec (*read)(const nlohmann::json& config, const std::string& where, bool untied_head);
};

/// Reads a configuration with the architecture that matches it, or throws Error that lists the known ones.
ModelSpec read_model_spec(const nlohmann::json& config, const std::string& where, bool untied_head);

}  // namespace molt
