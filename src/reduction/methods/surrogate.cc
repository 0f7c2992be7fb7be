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
//   [{"up_to": 192, "recent": 32, "tiers": [{"until": 0.4, "ops": "FFFFWWSS..."}, ...]}, ..., {"recent": 64, ...}]
// The first rule whose up_to (tokens of the prompt) is not exceeded holds; the last one has none. Tiers go from the
// oldest on: a tier ends at the share `until` of the prompt; none reaches into the last `recent` tokens, which run in
// full as does what lies behind the last tier.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/fail.h"
#include "molt/reducer.h"
#include "reduction/write_maps.h"

namespace molt {
namespace {

struct Tier {
  double until = 0;
  std::string ops;
};

struct Rule {
  std::optional<std::int64_t> up_to;
  std::int64_t recent = 0;
  std::vector<Tier> tiers;
};

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
  // Nobody reads what the last block puts out, and a token that is away does not come back for it.
  if (ops.back() == 'F') ops.back() = 'W';
  return ops;
}

std::vector<Rule> read_rules(const std::string& text, std::int64_t layers) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty()) fail("rules must be a JSON array of at least one rule");
  std::vector<Rule> rules;
  for (std::size_t r = 0; r < json.size(); ++r) {
    const std::string where = fmt::format("rules[{}]", r);
    Rule rule;
    if (json[r].is_object() && json[r].contains("up_to")) rule.up_to = value_of<std::int64_t>(json[r], "up_to", where);
    if (rule.up_to.has_value() == (r + 1 == json.size())) {
      fail("{}: every rule but the last one has an \"up_to\"", where);
    }
    if (r > 0 && rule.up_to && *rule.up_to <= *rules.back().up_to) fail("{}: up_to must ascend", where);
    rule.recent = value_of<std::int64_t>(json[r], "recent", where);
    const auto tiers = value_of<nlohmann::json>(json[r], "tiers", where);
    if (!tiers.is_array()) fail("{}: tiers must be an array", where);
    for (std::size_t t = 0; t < tiers.size(); ++t) {
      const std::string place = fmt::format("{}.tiers[{}]", where, t);
      const Tier tier{value_of<double>(tiers[t], "until", place), read_ops(tiers[t], layers, place)};
      const double from = rule.tiers.empty() ? 0 : rule.tiers.back().until;
      if (!(tier.until > from && tier.until <= 1)) fail("{}: until must lie in ({}, 1]", place, from);
      rule.tiers.push_back(tier);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

class Surrogate final : public Reducer {
 public:
  explicit Surrogate(const MethodInput& input) : layers_(input.model.layers), carry_(input.carry) {
    if (!input.options.has("rules")) {
      fail("surrogate needs a schedule: run molt tune MODEL --text FILE --out SCHEDULE.json, then --reduce SCHEDULE.json");
    }
    rules_ = read_rules(input.options.text("rules"), layers_);
    std::optional<WriteMaps> maps;
    if (input.options.has("maps")) maps.emplace(input.options.text("maps"), input.model.core);
    sites_.insert(layers_ - 2);
    for (const Rule& rule : rules_) {
      for (const Tier& tier : rule.tiers) plan_tier(tier.ops, maps);
    }
  }

  std::vector<std::int64_t> sites() const override { return {sites_.begin(), sites_.end()}; }

  Plan plan(const Site& site) const override {
    const Place& place = site.place();
    const Rule& rule = rule_for(place.scope());
    Plan plan;
    plan.carry = carry_;
    plan.courses.clear();
    std::map<std::string_view, std::size_t> courses;  // by the letters of the tier
    for (std::int64_t i = 0; i < site.tokens(); ++i) {
      const auto token = static_cast<std::size_t>(i);
      if (site.is_protected()[token] != 0) continue;
      const std::string_view ops = ops_of(rule, site.positions()[token] - place.begin + place.offset(), place.scope());
      const Course* course = find_course(ops, site.layer());
      if (course == nullptr) continue;
      const auto [known, added] = courses.emplace(ops, plan.courses.size());
      if (added) plan.courses.push_back(*course);
      plan.departures.push_back({.token = i, .course = known->second});
    }
    return plan;
  }

 private:
  const Rule& rule_for(std::int64_t tokens) const {
    return *std::find_if(rules_.begin(), rules_.end(),
                         [&](const Rule& rule) { return !rule.up_to || tokens <= *rule.up_to; });
  }

  /// The letters of the token's tier; empty for those that run in full.
  static std::string_view ops_of(const Rule& rule, std::int64_t position, std::int64_t tokens) {
    if (position >= tokens - rule.recent) return {};
    for (const Tier& tier : rule.tiers) {
      if (static_cast<double>(position) < tier.until * static_cast<double>(tokens)) return tier.ops;
    }
    return {};
  }

  /// The course of tokens of `ops` that leave behind `layer`; null when they do not.
  const Course* find_course(std::string_view ops, std::int64_t layer) const {
    if (ops.empty()) return layer == layers_ - 2 ? &last_ : nullptr;
    const auto it = courses_.find(std::make_pair(std::string(ops), layer));
    return it == courses_.end() ? nullptr : &it->second;
  }

  /// Notes where tokens of `ops` leave, and what they do until they come back.
  void plan_tier(const std::string& ops, std::optional<WriteMaps>& maps) {
    const auto at = [&](std::int64_t layer) { return ops[static_cast<std::size_t>(layer)]; };
    for (std::int64_t site = -1; site + 1 < layers_; ++site) {
      if ((site >= 0 && at(site) != 'F') || at(site + 1) == 'F') continue;
      Course course;
      for (std::int64_t layer = site + 1; layer < layers_; ++layer) {
        if (at(layer) == 'F') {
          course.return_at = layer;
          break;
        }
        if (at(layer) == 'S') continue;
        const bool exact = at(layer) == 'W' && layer == site + 1;
        if (!exact && !maps) fail("the schedule writes to block {} through a map, but names no file of maps", layer);
        course.writes.push_back({layer, exact ? nullptr : maps->get({site + 1, layer, at(layer)})});
      }
      courses_[{ops, site}] = course;
      sites_.insert(site);
    }
  }

  std::int64_t layers_;
  bool carry_;
  std::vector<Rule> rules_;
  std::map<std::pair<std::string, std::int64_t>, Course> courses_;  // by letters and site
  Course last_{.writes = {{layers_ - 1, nullptr}}};
  std::set<std::int64_t> sites_;
};

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
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
       return std::make_shared<Surrogate>(input);
     }}};

}  // namespace
}  // namespace molt
