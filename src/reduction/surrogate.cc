#include "reduction/surrogate.h"

#include <algorithm>
#include <map>
#include <set>

namespace molt {
namespace {

struct Tier {
  double until = 0;
  std::map<std::int64_t, Course> courses;  // by the block behind which its tokens leave
};

struct Rule {
  std::optional<std::int64_t> up_to;
  std::int64_t recent = 0;
  std::vector<Tier> tiers;
};

/// Nobody reads what the last block puts out, and a token that is away does not come back for it.
std::string with_silent_end(std::string ops) {
  if (ops.back() == 'F') ops.back() = 'W';
  return ops;
}

class Surrogate final : public Reducer {
 public:
  Surrogate(const SurrogateSchedule& schedule, std::int64_t layers, bool carry, const WriteMapSource& maps)
      : layers_(layers), carry_(carry), sites_{layers - 2} {
    for (const SurrogateRule& written : schedule) {
      Rule& rule = rules_.emplace_back(Rule{written.up_to, written.recent, {}});
      for (const SurrogateTier& tier : written.tiers) {
        rule.tiers.push_back({tier.until, {}});
        plan_tier(static_cast<std::int64_t>(rules_.size()) - 1, with_silent_end(tier.ops), maps, rule.tiers.back());
      }
    }
  }

  std::vector<std::int64_t> sites() const override { return {sites_.begin(), sites_.end()}; }

  Measures measures() const override { return {.output = false, .contribution = false}; }

  Plan plan(const Site& site) const override {
    const Place& place = site.place();
    const Rule& rule = rule_for(place.scope());
    Plan plan;
    plan.carry = carry_;
    plan.courses.clear();
    std::map<const Course*, std::size_t> courses;
    for (std::int64_t i = 0; i < site.tokens(); ++i) {
      const auto token = static_cast<std::size_t>(i);
      if (site.is_protected()[token] != 0) continue;
      const Tier* tier = tier_of(rule, site.positions()[token] - place.begin + place.offset(), place.scope());
      const Course* course = find_course(tier, site.layer());
      if (course == nullptr) continue;
      const auto [known, added] = courses.emplace(course, plan.courses.size());
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

  /// The tier of a position; null for those that run in full.
  static const Tier* tier_of(const Rule& rule, std::int64_t position, std::int64_t tokens) {
    if (position >= tokens - rule.recent) return nullptr;
    for (const Tier& tier : rule.tiers) {
      if (static_cast<double>(position) < tier.until * static_cast<double>(tokens)) return &tier;
    }
    return nullptr;
  }

  /// The course of tokens of a tier that leave behind `layer`; null when they do not.
  const Course* find_course(const Tier* tier, std::int64_t layer) const {
    if (tier == nullptr) return layer == layers_ - 2 ? &last_ : nullptr;
    const auto it = tier->courses.find(layer);
    return it == tier->courses.end() ? nullptr : &it->second;
  }

  /// Notes where a tier's tokens leave, and what they do until they come back.
  void plan_tier(std::int64_t rule, const std::string& ops, const WriteMapSource& maps, Tier& tier) {
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
        const std::optional<WriteMapKey> map = map_needed(rule, ops, layer);
        course.writes.push_back({layer, map ? maps(*map) : nullptr});
      }
      tier.courses[site] = std::move(course);
      sites_.insert(site);
    }
  }

  std::int64_t layers_;
  bool carry_;
  std::vector<Rule> rules_;
  Course last_{.writes = {{layers_ - 1, nullptr}}};
  std::set<std::int64_t> sites_;
};

}  // namespace

std::optional<WriteMapKey> map_needed(std::int64_t rule, const std::string& ops, std::int64_t layer) {
  const char letter = with_silent_end(ops)[static_cast<std::size_t>(layer)];
  if (letter != 'W' && letter != 'L') return std::nullopt;
  std::int64_t from = layer;
  while (from > 0 && ops[static_cast<std::size_t>(from - 1)] != 'F') --from;
  if (letter == 'W' && from == layer) return std::nullopt;  // what it writes is what the block itself would
  return WriteMapKey{rule, from, layer, letter};
}

std::shared_ptr<const Reducer> make_surrogate(const SurrogateSchedule& schedule, std::int64_t layers, bool carry,
                                              const WriteMapSource& maps) {
  return std::make_shared<Surrogate>(schedule, layers, carry, maps);
}

}  // namespace molt
