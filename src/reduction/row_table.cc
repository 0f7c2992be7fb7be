#include "reduction/row_table.h"

#include <algorithm>
#include <numeric>

#include "base/fail.h"
#include "reduction/schedule.h"

namespace molt {

RowTable::RowTable(std::span<const ReducedPiece> pieces, const ModelCore& model)
    : pieces_(pieces), model_(model), offsets_{0} {
  for (const ReducedPiece& piece : pieces) {
    offsets_.push_back(offsets_.back() + piece.place.tokens);
    if (std::any_of(piece.owed.begin(), piece.owed.end(), [](std::int64_t owed) { return owed != 0; })) {
      untouched_ = false;
    }
  }
  where_.assign(static_cast<std::size_t>(offsets_.back()), kLive);
  carries_.assign(static_cast<std::size_t>(offsets_.back()), 0);
  update_live();
}

void RowTable::update_live() {
  live_.clear();
  live_offsets_.assign(1, 0);
  for (std::size_t s = 0; s + 1 < offsets_.size(); ++s) {
    for (std::int64_t row = offsets_[s]; row < offsets_[s + 1]; ++row) {
      if (where_[static_cast<std::size_t>(row)] == kLive) live_.push_back(row);
    }
    live_offsets_.push_back(static_cast<std::int64_t>(live_.size()));
  }
}

bool RowTable::is_site(std::int64_t layer, std::size_t sequence) const {
  const ReducedPiece& piece = pieces_[sequence];
  if (piece.reduction == nullptr || live_offsets_[sequence] == live_offsets_[sequence + 1]) return false;
  const std::vector<std::int64_t> sites = piece.reduction->reducer->sites();
  return std::binary_search(sites.begin(), sites.end(), layer);
}

bool RowTable::is_site(std::int64_t layer) const {
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (is_site(layer, s)) return true;
  }
  return false;
}

std::span<const std::int64_t> RowTable::live_rows(std::size_t sequence) const {
  return std::span(live_).subspan(static_cast<std::size_t>(live_offsets_[sequence]),
                                  static_cast<std::size_t>(live_offsets_[sequence + 1] - live_offsets_[sequence]));
}

std::vector<std::int64_t> RowTable::positions(std::size_t sequence) const {
  std::vector<std::int64_t> positions;
  positions.reserve(live_rows(sequence).size());
  for (const std::int64_t row : live_rows(sequence)) {
    positions.push_back(pieces_[sequence].place.begin + row - offsets_[sequence]);
  }
  return positions;
}

std::vector<std::uint8_t> RowTable::protection(std::size_t sequence) const {
  const ReducedPiece& piece = pieces_[sequence];
  const std::int64_t first = piece.place.begin - offsets_[sequence];
  std::vector<std::uint8_t> is_protected;
  is_protected.reserve(live_rows(sequence).size());
  for (const std::int64_t row : live_rows(sequence)) {
    const std::int64_t position = first + row;
    is_protected.push_back(static_cast<std::uint8_t>(position < piece.reduction->protect_first ||
                                                     position >= piece.fed - piece.reduction->protect_last));
  }
  return is_protected;
}

std::int64_t RowTable::scheduled_removals(std::size_t sequence, std::int64_t layer) const {
  const Schedule& schedule = pieces_[sequence].reduction->schedule;
  const auto site = std::find(schedule.sites.begin(), schedule.sites.end(), layer);
  if (site == schedule.sites.end()) return 0;
  const double ratio = schedule.ratios[static_cast<std::size_t>(site - schedule.sites.begin())];
  const std::vector<std::uint8_t> is_protected = protection(sequence);
  const auto tokens = static_cast<std::int64_t>(is_protected.size());
  const std::int64_t unprotected = std::count(is_protected.begin(), is_protected.end(), 0);
  return std::min(tokens - tokens_kept(tokens, ratio), unprotected);
}

void RowTable::check(const Plan& plan, std::size_t sequence, std::int64_t layer) const {
  const std::string& method = pieces_[sequence].reduction->method;
  const auto wrong = [&](const std::string& what) {
    fail("reduction method {}, behind block {}: {}", method, layer, what);
  };
  const std::vector<std::uint8_t> is_protected = protection(sequence);
  const auto tokens = static_cast<std::int64_t>(is_protected.size());
  if (!plan.weights.empty() && static_cast<std::int64_t>(plan.weights.size()) != tokens) {
    wrong(fmt::format("{} weights for {} tokens", plan.weights.size(), tokens));
  }
  for (const Course& course : plan.courses) {
    if (course.return_at != Course::kNever && course.return_at <= layer + 1) {
      wrong(fmt::format("tokens cannot return before block {}", course.return_at));
    }
    std::int64_t previous = layer;
    for (const Write& write : course.writes) {
      const std::int64_t end = course.return_at == Course::kNever ? model_.config().n_layer : course.return_at;
      if (write.layer <= previous || write.layer >= end)
        wrong(fmt::format("no token can write to layer {}", write.layer));
      previous = write.layer;
    }
  }
  std::vector<std::uint8_t> leaves(static_cast<std::size_t>(tokens), 0);
  std::int64_t previous = -1;
  for (const Departure& departure : plan.departures) {
    if (departure.token <= previous || departure.token >= tokens) {
      wrong(fmt::format("token {} of {} is out of range or out of order", departure.token, tokens));
    }
    if (is_protected[static_cast<std::size_t>(departure.token)] != 0) {
      wrong(fmt::format("token {} is protected", departure.token));
    }
    if (departure.course >= plan.courses.size()) wrong(fmt::format("there is no course {}", departure.course));
    leaves[static_cast<std::size_t>(departure.token)] = 1;
    previous = departure.token;
  }
  for (const Departure& departure : plan.departures) {
    for (const std::int64_t target : {departure.hidden_into, departure.residual_into}) {
      if (target == Departure::kPruned) continue;
      if (target < 0 || target >= tokens || leaves[static_cast<std::size_t>(target)] != 0) {
        wrong(fmt::format("token {} cannot be merged into {}, which does not stay", departure.token, target));
      }
    }
  }
}

std::size_t RowTable::group_of(const Course& course, std::size_t first) {
  for (std::size_t g = first; g < groups_.size(); ++g) {
    if (groups_[g].course == course) return g;
  }
  groups_.push_back({course, {}});
  return groups_.size() - 1;
}

RowTable::Move RowTable::apply(std::int64_t layer, std::span<const Plan> plans) {
  Move move;
  const std::size_t first_group = groups_.size();
  for (std::size_t s = 0; s < plans.size(); ++s) {
    if (plans[s].departures.empty()) continue;
    check(plans[s], s, layer);
    note(plans[s], s, layer);
    depart(plans[s], s, layer, first_group, move);
  }
  if (move.stay_all) return move;
  move.stay.reserve(live_.size());
  for (std::size_t i = 0; i < live_.size(); ++i) {
    if (where_[static_cast<std::size_t>(live_[i])] == kLive) move.stay.push_back(static_cast<std::int64_t>(i));
  }
  untouched_ = false;
  update_live();
  return move;
}

void RowTable::depart(const Plan& plan, std::size_t sequence, std::int64_t layer, std::size_t first_group, Move& move) {
  const std::int64_t first = live_offsets_[sequence];
  move.stay_all = false;
  if (!plan.weights.empty()) {
    move.weights.resize(live_.size(), 1.0F);
    std::copy(plan.weights.begin(), plan.weights.end(), move.weights.begin() + first);
  }
  for (const Departure& departure : plan.departures) {
    const std::int64_t live = first + departure.token;
    const auto row = static_cast<std::size_t>(live_[static_cast<std::size_t>(live)]);
    carries_[row] = static_cast<std::uint8_t>(plan.carry);
    where_[row] = kGone;
    if (departure.hidden_into != Departure::kPruned && layer >= 0) {
      move.hidden_merges.push_back({live, first + departure.hidden_into});
    }
    if (departure.residual_into != Departure::kPruned) {
      move.residual_merges.push_back({live, first + departure.residual_into});
    }
    const Course& course = plan.courses[departure.course];
    if (course.writes.empty() && course.return_at == Course::kNever) continue;
    const std::size_t group = group_of(course, first_group);
    where_[row] = static_cast<std::int32_t>(group);
    groups_[group].rows.push_back(static_cast<std::int64_t>(row));
    const auto same = [&](const auto& entry) { return entry.first == group; };
    auto entry = std::find_if(move.parked.begin(), move.parked.end(), same);
    if (entry == move.parked.end()) entry = move.parked.insert(entry, {group, {}});
    entry->second.push_back(live);
  }
}

void RowTable::note(const Plan& plan, std::size_t sequence, std::int64_t layer) const {
  ReductionRecord* record = pieces_[sequence].record;
  if (record == nullptr) return;
  const std::vector<std::int64_t> position = positions(sequence);
  const auto position_of = [&](std::int64_t token) {
    return token == Departure::kPruned ? Departure::kPruned : position[static_cast<std::size_t>(token)];
  };
  for (const Departure& departure : plan.departures) {
    const Course& course = plan.courses[departure.course];
    TokenFate fate{position_of(departure.token),
                   layer,
                   TokenFate::Kind::pruned,
                   position_of(departure.hidden_into),
                   position_of(departure.residual_into),
                   course.return_at};
    if (!course.writes.empty()) {
      fate.kind = TokenFate::Kind::write_only;
    } else if (course.return_at != Course::kNever) {
      fate.kind = TokenFate::Kind::bypass;
    } else if (fate.hidden_into != Departure::kPruned || fate.residual_into != Departure::kPruned) {
      fate.kind = TokenFate::Kind::merged;
    }
    record->fates.push_back(fate);
  }
  const auto at = std::lower_bound(record->sites.begin(), record->sites.end(), layer);
  if (at == record->sites.end() || *at != layer) record->sites.insert(at, layer);
}

RowTable::Return RowTable::take_back(std::int64_t layer) {
  Return result;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].course.return_at != layer || groups_[g].returned) continue;
    groups_[g].returned = true;
    result.entering.emplace_back(g, std::vector<std::int64_t>());
  }
  if (result.entering.empty()) return result;
  const std::vector<std::int64_t> before = live_;
  for (const auto& [group, places] : result.entering) {
    for (const std::int64_t row : groups_[group].rows) where_[static_cast<std::size_t>(row)] = kLive;
  }
  update_live();
  const auto places_of = [&](const std::vector<std::int64_t>& rows) {
    std::vector<std::int64_t> places;
    for (const std::int64_t row : rows) {
      places.push_back(std::lower_bound(live_.begin(), live_.end(), row) - live_.begin());
    }
    return places;
  };
  result.live_before = places_of(before);
  for (auto& [group, places] : result.entering) places = places_of(groups_[group].rows);
  return result;
}

const RowTable::Participants& RowTable::take_part(std::int64_t layer) {
  Participants& p = participants_;
  p = {};
  if (untouched_) {
    p.offsets = offsets_;
    count(layer);
    return p;
  }
  // For each group: whether it writes here, and if so its number among those that do.
  std::vector<std::int32_t> writing(groups_.size(), -1);
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].returned) continue;
    for (const Write& write : groups_[g].course.writes) {
      if (write.layer != layer) continue;
      writing[g] = static_cast<std::int32_t>(p.writing.size());
      p.writing.push_back({g, write.map.get(), {}});
    }
  }
  p.all_live = p.writing.empty();
  bool ones = true;
  p.offsets.push_back(0);
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    const std::span<std::int64_t> owed = pieces_[s].owed;
    std::int64_t behind = owed.empty() ? 0 : owed[static_cast<std::size_t>(layer)];
    for (auto row = static_cast<std::size_t>(offsets_[s]); row < static_cast<std::size_t>(offsets_[s + 1]); ++row) {
      const bool live = where_[row] == kLive;
      const std::int32_t writes = where_[row] >= 0 ? writing[static_cast<std::size_t>(where_[row])] : -1;
      if (!live && writes < 0) {
        behind += carries_[row];
        continue;
      }
      const auto place = static_cast<std::int64_t>(p.multiplicity.size());
      if (live) {
        p.full.push_back(place);
      } else {
        p.writing[static_cast<std::size_t>(writes)].places.push_back(place);
      }
      p.wanted.push_back(static_cast<std::uint8_t>(live));
      p.multiplicity.push_back(static_cast<float>(1 + behind));
      ones = ones && behind == 0;
      behind = 0;
    }
    if (!owed.empty()) owed[static_cast<std::size_t>(layer)] = behind;
    p.offsets.push_back(static_cast<std::int64_t>(p.multiplicity.size()));
  }
  if (ones) p.multiplicity.clear();
  count(layer);
  if (p.all_live) {
    p.full.clear();
    p.wanted.clear();
  }
  return p;
}

void RowTable::count(std::int64_t layer) const {
  const Block& block = model_.block(layer);
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    ReductionRecord* record = pieces_[s].record;
    if (record == nullptr) continue;
    record->full.resize(static_cast<std::size_t>(model_.config().n_layer));
    record->writing.resize(record->full.size());
    const std::int64_t full = live_offsets_[s + 1] - live_offsets_[s];
    record->full[static_cast<std::size_t>(layer)] += full;
    const double cost = block.cost().flops_per_token;
    record->flops += cost * static_cast<double>(full);
    record->dense_flops += cost * static_cast<double>(pieces_[s].place.tokens);
    for (const Participants::Writing& writing : participants_.writing) {
      const std::int64_t begin = participants_.offsets[s];
      const std::int64_t end = participants_.offsets[s + 1];
      const auto number = std::lower_bound(writing.places.begin(), writing.places.end(), end) -
                          std::lower_bound(writing.places.begin(), writing.places.end(), begin);
      record->writing[static_cast<std::size_t>(layer)] += number;
      record->flops += block.write_flops(writing.map) * static_cast<double>(number);
    }
  }
}

}  // namespace molt
