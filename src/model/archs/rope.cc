#include "model/archs/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/fail.h"

namespace molt {
namespace {

constexpr double kDefaultBase = 10000.0;

double positive(const Json& json, const std::string& key, std::optional<double> fallback, const std::string& where) {
  const double value = get_double(json, key, fallback, where);
  if (!(value > 0 && std::isfinite(value))) fail("{}: {} is {}; it must be positive", where, key, value);
  return value;
}

/// Llama 3.1's: long waves are stretched by `factor`, short ones stay, those between go over from one to the other.
void stretch_long_waves(const Json& scaling, const std::string& where, std::vector<double>& frequencies) {
  const double factor = positive(scaling, "factor", required, where);
  const double low = positive(scaling, "low_freq_factor", required, where);
  const double high = positive(scaling, "high_freq_factor", required, where);
  const double context = positive(scaling, "original_max_position_embeddings", required, where);
  if (!(low < high)) fail("{}: low_freq_factor is {}, not below high_freq_factor, {}", where, low, high);
  for (double& frequency : frequencies) {
    const double waves = context * frequency / (2 * std::numbers::pi);  // in the context that the model was trained on
    const double kept = std::clamp((waves - low) / (high - low), 0.0, 1.0);
    frequency *= kept + (1 - kept) / factor;
  }
}

void scale(const Json& scaling, const std::string& where, std::vector<double>& frequencies) {
  const std::string type = get_string(scaling, "rope_type", get_string(scaling, "type", "default", where), where);
  if (type == "default") return;
  if (type == "linear") {
    const double factor = positive(scaling, "factor", required, where);
    for (double& frequency : frequencies) frequency /= factor;
  } else if (type == "llama3") {
    stretch_long_waves(scaling, where, frequencies);
  } else {
    fail("{}: rope_type is \"{}\"; molt knows default, linear and llama3", where, type);
  }
}

}  // namespace

std::vector<double> rope_frequencies(double base, std::int64_t width) {
  std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(width));
  }
  return frequencies;
}

std::vector<double> read_rope(const Json& json, const std::string& where, std::int64_t head_dim) {
  double base = positive(json, "rope_theta", kDefaultBase, where);
  Json scaling = Json::object();
  std::string part;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) continue;
    if (!it->is_object()) fail("{}: {} is {}; it must be an object or null", where, key, describe(*it));
    scaling = *it;
    part = fmt::format("{}: {}", where, key);
    base = positive(scaling, "rope_theta", base, part);
  }
  for (const Json* place : {&json, static_cast<const Json*>(&scaling)}) {
    const double share = get_double(*place, "partial_rotary_factor", 1.0, where);
    if (share != 1.0) fail("{}: partial_rotary_factor is {}; molt turns whole heads", where, share);
  }
  std::vector<double> frequencies = rope_frequencies(base, head_dim);
  scale(scaling, part, frequencies);
  return frequencies;
}

}  // namespace molt
