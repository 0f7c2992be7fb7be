// ScheduledReducer: what methods share that remove a count of tokens at each site of a schedule.
#pragma once

#include "molt/reducer.h"

namespace molt {

class ScheduledReducer : public Reducer {
 public:
  explicit ScheduledReducer(const MethodInput& input) : sites_(input.schedule.sites), carry_(input.carry) {}

  std::vector<std::int64_t> sites() const final { return sites_; }

  Plan plan(const Site& site) const final { return begin_plan(site)(); }

  /// Asks begin_choice() where something is to be removed; so a cut of 0 measures nothing.
  std::function<Plan()> begin_plan(const Site& site) const final {
    const std::int64_t count = site.to_remove();
    if (count <= 0) return [] { return Plan{}; };
    return [choice = begin_choice(site, count), carry = carry_] {
      Plan plan = choice();
      plan.carry = carry;
      return plan;
    };
  }

 protected:
  /// Takes `count` tokens out, at most as many as are unprotected.
  virtual Plan choose(const Site& site, std::int64_t count) const = 0;

  /// The same in two steps, as of begin_plan().
  virtual std::function<Plan()> begin_choice(const Site& site, std::int64_t count) const {
    return [this, &site, count] { return choose(site, count); };
  }

 private:
  std::vector<std::int64_t> sites_;
  bool carry_;
};

}  // namespace molt
