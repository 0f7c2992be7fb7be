// What the configuration readers of archs/ share.
#pragma once

#include <string>

#include "base/fail.h"
#include "io/json_file.h"
#include "model/architecture.h"

namespace molt {

// Larger figures than any model has: they keep a broken configuration from asking for absurd amounts of memory.
inline constexpr IntRange kWidths{1, 1 << 20};
inline constexpr IntRange kLayers{1, 10000};
inline constexpr IntRange kVocabulary{1, 1 << 24};
inline constexpr IntRange kTaps{1, 64};

/// The small number that an RMS norm adds below the root.
inline float get_eps(const Json& json, const std::string& key, double fallback, const std::string& where) {
  const double eps = get_double(json, key, fallback, where);
  if (!(eps >= 0 && eps <= 1)) fail("{}: {} is {}; it must lie in [0, 1]", where, key, eps);
  return static_cast<float>(eps);
}

/// The fields that Hugging Face configurations of all Mamba kinds share.
inline ModelConfig read_hugging_face_config(const Json& json, const std::string& where, bool untied_head) {
  const std::string activation = get_string(json, "hidden_act", "silu", where);
  if (activation != "silu" && activation != "swish") {
    fail("{}: hidden_act is \"{}\"; molt runs Mamba models with silu", where, activation);
  }
  ModelConfig config;
  config.d_model = get_int(json, "hidden_size", required, where, kWidths);
  config.n_layer = get_int(json, "num_hidden_layers", required, where, kLayers);
  config.vocab_size = get_int(json, "vocab_size", required, where, kVocabulary);
  config.n_tokens = config.vocab_size;
  config.norm_eps = get_eps(json, "layer_norm_epsilon", 1e-5, where);
  config.tie_embeddings = get_bool(json, "tie_word_embeddings", !untied_head, where);
  const IntRange ids{0, config.vocab_size - 1};
  config.bos = static_cast<TokenId>(get_int(json, "bos_token_id", 0, where, ids));
  config.eos = static_cast<TokenId>(get_int(json, "eos_token_id", 0, where, ids));
  return config;
}

/// An integer that may also be spelled "auto".
inline std::int64_t get_int_or_auto(const Json& json, const std::string& key, std::int64_t automatic,
                                    const std::string& where, IntRange range) {
  const auto it = json.find(key);
  if (it != json.end() && it->is_string() && it->get<std::string>() == "auto") return automatic;
  return get_int(json, key, automatic, where, range);
}

/// Limits of dt, [low, high], as time_step_limit and dt_limit hold them. Absent: none.
inline void read_dt_limit(const Json& json, const std::string& key, const std::string& where, float& low, float& high) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return;
  const auto number = [&](std::size_t i) {
    return it->is_array() && it->size() == 2 ? number_of((*it)[i]) : std::nullopt;
  };
  const auto lower = number(0);
  const auto upper = number(1);
  if (!lower || !upper || !(*lower <= *upper)) {
    fail("{}: {} is {}; it must be [low, high], high may be Infinity", where, key, describe(*it));
  }
  low = static_cast<float>(*lower);
  high = static_cast<float>(*upper);
}

inline bool has_model_type(const Json& json, const char* type) {
  const auto it = json.find("model_type");
  return it != json.end() && it->is_string() && it->get<std::string>() == type;
}

/// The names of a layer's mixer tensors begin with this, in canonical naming.
inline std::string mixer_prefix(std::int64_t layer) {
  return fmt::format("backbone.layers.{}.mixer.", layer);
}

/// Canonical names are Hugging Face's own.
inline std::string same_name(const std::string& name) {
  return name;
}

}  // namespace molt
