// oldest: a control. At each site the oldest tokens are pruned.
//
// Where the prompt's length is known, these are the oldest of the whole prompt, whatever window they are read in: what
// is left is what a single window would leave.
#include <algorithm>

#include "reduction/schedule.h"
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Oldest final : public Reducer {
 public:
  explicit Oldest(const MethodInput& input)
      : schedule_(input.schedule),
        carry_(input.carry),
        protect_first_(input.protect_first),
        protect_last_(input.protect_last) {}

  std::vector<std::int64_t> sites() const override { return schedule_.sites; }

  Measures measures() const override { return {.output = false, .contribution = false}; }

  Plan plan(const Site& site) const override {
    const std::optional<std::int64_t> length = site.place().length;
    const std::int64_t count = length ? removed_by(*length, site.layer()) : site.to_remove();
    return prune(oldest(site, protect_first_, count), carry_);
  }

 private:
  /// Tokens of a prompt of `length` that are gone behind the site at `layer`, in all.
  std::int64_t removed_by(std::int64_t length, std::int64_t layer) const {
    const std::int64_t most = std::max<std::int64_t>(0, length - protect_first_ - protect_last_);
    std::int64_t removed = 0;
    for (std::size_t i = 0; i < schedule_.sites.size() && schedule_.sites[i] <= layer; ++i) {
      removed = std::min(most, length - tokens_kept(length - removed, schedule_.ratios[i]));
    }
    return removed;
  }

  Schedule schedule_;
  bool carry_;
  std::int64_t protect_first_;
  std::int64_t protect_last_;
};

const MethodRegistration registration{"oldest",
                                      {.summary = "a control: at each site the oldest tokens are pruned",
                                       .carry = false,
                                       .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
                                         return std::make_shared<Oldest>(input);
                                       }}};

}  // namespace
}  // namespace molt
