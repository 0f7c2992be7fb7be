// surrogate: tokens leave the stream early and keep writing. Our own.
//
// What follows a prompt sees only the states that it left, so a token needs to be computed at a layer only as far as a
// later state depends on it. The older a token, the less: a schedule cuts the prompt into tiers by age and gives each a
// string of one letter a layer:
//   F  the block runs in full
//   W  the token only writes to the state, all heads
//   L  it writes a few heads of long memory only (which, and how, the write map says)
//   S  it is left out
// A token that does not run keeps its residual; what it writes to a later layer is predicted from that residual by the
// layer's write map, a linear map fitted on calibration text (exact, and without a map, at a W right behind an F). F may
// come again. At the last layer everything but the prompt's last token only writes: nobody reads what it would put out.
//
// The schedule is the key `rules`, JSON, made by `molt tune`:
//   [{"up_to": 191, "tiers": [{"until": 0.35, "ops": "FFFFLFSS..."}, ...]}, ..., {"tiers": [...]}]
// The first rule whose up_to (tokens of the prompt) is not exceeded holds; the last one has none. Tiers go from the
// oldest on: a tier ends at the share `until` of the prompt; what lies behind the last tier runs in full, and so do, if
// a rule says "recent": R, the prompt's last R tokens.
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "molt/reducer.h"
#include "reduction/surrogate.h"

namespace molt {
namespace {

/// JSON with errors that name the place.
template <class T>
T value_of(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.is_object() || !object.contains(key)) fail("{}: \"{}\" is missing", where, key);
  try {
    return object.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    fail("{}: \"{}\" is {}, which is of the wrong kind", where, key, object.at(key).dump());
  }
}

std::string read_ops(const nlohmann::json& tier, std::int64_t layers, const std::string& where) {
  auto ops = value_of<std::string>(tier, "ops", where);
  if (static_cast<std::int64_t>(ops.size()) != layers) {
    fail("{}: ops has {} letters for {} blocks", where, ops.size(), layers);
  }
  const std::size_t unknown = ops.find_first_not_of("FWLS");
  if (unknown != std::string::npos) fail("{}: ops holds '{}'; known: F, W, L, S", where, ops[unknown]);
  return ops;
}

SurrogateSchedule read_rules(const std::string& text, std::int64_t layers) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty()) fail("rules must be a JSON array of at least one rule");
  SurrogateSchedule rules;
  for (std::size_t r = 0; r < json.size(); ++r) {
    const std::string where = fmt::format("rules[{}]", r);
    SurrogateRule rule;
    if (json[r].is_object() && json[r].contains("up_to")) rule.up_to = value_of<std::int64_t>(json[r], "up_to", where);
    if (rule.up_to.has_value() == (r + 1 == json.size())) {
      fail("{}: every rule but the last one has an \"up_to\"", where);
    }
    if (r > 0 && rule.up_to && *rule.up_to <= *rules.back().up_to) fail("{}: up_to must ascend", where);
    if (json[r].is_object() && json[r].contains("recent")) {
      rule.recent = value_of<std::int64_t>(json[r], "recent", where);
    }
    const auto tiers = value_of<nlohmann::json>(json[r], "tiers", where);
    if (!tiers.is_array()) fail("{}: tiers must be an array", where);
    for (std::size_t t = 0; t < tiers.size(); ++t) {
      const std::string place = fmt::format("{}.tiers[{}]", where, t);
      const SurrogateTier tier{value_of<double>(tiers[t], "until", place), read_ops(tiers[t], layers, place)};
      const double from = rule.tiers.empty() ? 0 : rule.tiers.back().until;
      if (!(tier.until > from && tier.until <= 1)) fail("{}: until must lie in ({}, 1]", place, from);
      rule.tiers.push_back(tier);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

std::shared_ptr<const Reducer> make(const MethodInput& input) {
  if (!input.options.has("rules")) {
    fail("surrogate needs a schedule: run molt tune MODEL --text FILE --out SCHEDULE.json, then --reduce SCHEDULE.json");
  }
  const SurrogateSchedule schedule = read_rules(input.options.text("rules"), input.model.layers);
  std::optional<WriteMaps> maps;
  if (input.options.has("maps")) maps.emplace(input.options.text("maps"), input.model.core);
  return make_surrogate(schedule, input.model.layers, input.carry, [&](const WriteMapKey& key) {
    if (!maps) fail("the schedule writes to block {} through a map, but names no file of maps", key.to);
    return maps->get(key);
  });
}

const MethodRegistration registration{
    "surrogate",
    {.summary = "older tokens leave early and keep writing to the states, as a tuned schedule says (ours; molt tune)",
     .uses_schedule = false,
     .carry = false,
     .options = {{.name = "rules",
                  .kind = OptionInfo::Kind::text,
                  .default_value = "",
                  .help = "tiers of tokens by age and what they do at each layer, as molt tune writes them"},
                 {.name = "maps",
                  .kind = OptionInfo::Kind::path,
                  .default_value = "",
                  .help = "the safetensors file of write maps that belongs to them"}},
     .make = &make}};

}  // namespace
}  // namespace molt
