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
// layer's write map, a linear map fitted on calibration text (exact, and without a map, at a W right behind an F). F
// may come again. At the last layer everything but the prompt's last token only writes: nobody reads what it would put
// out.
//
// The schedule is the key `rules`, JSON, made by `molt tune`:
//   [{"up_to": 191, "tiers": [{"until": 0.35, "ops": "FFFFLFSS..."}, ...]}, ..., {"tiers": [...]}]
// The first rule whose up_to (tokens of the prompt) is not exceeded holds; the last one has none. Tiers go from the
// oldest on: a tier ends at the share `until` of the prompt; what lies behind the last tier runs in full, and so do, if
// a rule says "recent": R, the prompt's last R tokens.
#include <algorithm>
#include <initializer_list>
#include <optional>

#include "base/fail.h"
#include "io/json_file.h"
#include "molt/reducer.h"
#include "reduction/surrogate.h"

namespace molt {
namespace {

constexpr std::int64_t kManyTokens = std::int64_t{1} << 40;

/// Throws Error when an object holds a key that nobody reads: a misspelt one would be lost in silence.
void check_keys(const Json& object, std::initializer_list<std::string_view> known, const std::string& where) {
  if (!object.is_object()) fail("{} is {}; it must be an object", where, describe(object));
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      fail("{}: unknown key \"{}\"; known: {}", where, key, fmt::join(known, ", "));
    }
  }
}

/// A member of an object; errors name the place.
const Json& member(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object() || !object.contains(key)) fail("{}: \"{}\" is missing", where, key);
  return object.at(key);
}

std::int64_t read_tokens(const Json& object, const char* key, std::int64_t least, const std::string& where) {
  const std::optional<std::int64_t> value = integer_of(member(object, key, where));
  if (!value || *value < least || *value > kManyTokens) {
    fail("{}: \"{}\" is {}; it must be a number of tokens, at least {}", where, key, describe(object.at(key)), least);
  }
  return *value;
}

std::string read_ops(const Json& tier, std::int64_t layers, const std::string& where) {
  const Json& value = member(tier, "ops", where);
  if (!value.is_string()) fail("{}: \"ops\" is {}; it must be a letter for each block", where, describe(value));
  auto ops = value.get<std::string>();
  if (static_cast<std::int64_t>(ops.size()) != layers) {
    fail("{}: ops has {} letters for {} blocks", where, ops.size(), layers);
  }
  const std::size_t unknown = ops.find_first_not_of("FWLS");
  if (unknown != std::string::npos) fail("{}: ops is {}; known letters: F, W, L, S", where, describe(value));
  return ops;
}

SurrogateTier read_tier(const Json& json, double from, std::int64_t layers, const std::string& where) {
  check_keys(json, {"until", "ops"}, where);
  const std::optional<double> until = number_of(member(json, "until", where));
  if (!until || !(*until > from && *until <= 1)) {
    fail("{}: \"until\" is {}; it must be a share of the prompt in ({}, 1]", where, describe(json.at("until")), from);
  }
  return {*until, read_ops(json, layers, where)};
}

SurrogateSchedule read_rules(const std::string& text, std::int64_t layers) {
  const Json json = parse_json(text, "rules", {.non_finite = false, .duplicate_keys = false});
  if (!json.is_array() || json.empty()) fail("rules must be a JSON array of at least one rule");
  SurrogateSchedule rules;
  for (std::size_t r = 0; r < json.size(); ++r) {
    const std::string where = fmt::format("rules[{}]", r);
    SurrogateRule rule;
    check_keys(json[r], {"up_to", "recent", "tiers"}, where);
    if (json[r].contains("up_to")) rule.up_to = read_tokens(json[r], "up_to", 1, where);
    if (rule.up_to.has_value() == (r + 1 == json.size())) {
      fail("{}: every rule but the last one has an \"up_to\"", where);
    }
    if (r > 0 && rule.up_to && *rule.up_to <= *rules.back().up_to) fail("{}: up_to must ascend", where);
    if (json[r].contains("recent")) rule.recent = read_tokens(json[r], "recent", 0, where);
    const Json& tiers = member(json[r], "tiers", where);
    if (!tiers.is_array()) fail("{}: \"tiers\" is {}; it must be an array", where, describe(tiers));
    for (std::size_t t = 0; t < tiers.size(); ++t) {
      const double from = rule.tiers.empty() ? 0 : rule.tiers.back().until;
      rule.tiers.push_back(read_tier(tiers[t], from, layers, fmt::format("{}.tiers[{}]", where, t)));
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

std::shared_ptr<const Reducer> make(const MethodInput& input) {
  if (!input.options.has("rules")) {
    fail(
        "surrogate needs a schedule: run molt tune MODEL --text FILE --out SCHEDULE.json, then --reduce SCHEDULE.json");
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
