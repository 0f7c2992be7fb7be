// ScheduledReducer: what methods share that remove a count of tokens at each site of a schedule.
#pragma once

#include "molt/reducer.h"

namespace molt {

class ScheduledReducer : public Reducer {
 public:
  explicit ScheduledReducer(const MethodInput& input) : sites_(input.schedule.sites), carry_(input.carry) {}

  std::vector<std::int64_t> sites() const final { return sites_; }

  /// Asks choose() where something is to be removed; so a cut of 0 measures nothing.
  Plan plan(const Site& site) const final {
    const std::int64_t count = site.to_remove();
    if (count <= 0) return {};
    Plan plan = choose(site, count);
    plan.carry = carry_;
    return plan;
  }

 protected:
  /// Takes `count` tokens out, at most as many as are unprotected.
  virtual Plan choose(const Site& site, std::int64_t count) const = 0;

 private:
  std::vector<std::int64_t> sites_;
  bool carry_;
};

}  // namespace molt
