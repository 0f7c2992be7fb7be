// Surrogate schedules: what tokens of each age do at each layer. src/reduction/methods/surrogate.cc says what they
// mean.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molt/reducer.h"
#include "reduction/write_maps.h"

namespace molt {

struct SurrogateTier {
  double until = 0;  // the share of the prompt at which it ends, counted from the oldest token
  std::string ops;   // one letter a layer: F, W, L, S
};

/// A schedule for prompts of up to `up_to` tokens.
struct SurrogateRule {
  std::optional<std::int64_t> up_to;  // nothing: of any length
  std::int64_t recent = 0;            // the last tokens of a prompt, which run in full
  std::vector<SurrogateTier> tiers;   // from the oldest on
};

using SurrogateSchedule = std::vector<SurrogateRule>;

/// Where the write maps come from. Called for each map of a schedule while its reducer is made.
using WriteMapSource = std::function<std::shared_ptr<const WriteMap>(const WriteMapKey& key)>;

/// Whether a letter at `layer` of `ops` needs a write map, and which.
std::optional<WriteMapKey> map_needed(std::int64_t rule, const std::string& ops, std::int64_t layer);

/// The reducer that follows a schedule on a model of `layers` blocks.
std::shared_ptr<const Reducer> make_surrogate(const SurrogateSchedule& schedule, std::int64_t layers, bool carry,
                                              const WriteMapSource& maps);

}  // namespace molt
