// stride: a control. Tokens are pruned at equal distances: of U that may go, k are the ones in the middle of k equal
// stretches.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Stride final : public ScheduledReducer {
 public:
  using ScheduledReducer::ScheduledReducer;

  Measures measures() const override { return {.output = false, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override {
    const std::vector<std::int64_t> candidates = unprotected_tokens(site);
    const auto all = static_cast<std::int64_t>(candidates.size());
    std::vector<std::int64_t> removed;
    for (std::int64_t i = 0; i < count; ++i) {
      removed.push_back(candidates[static_cast<std::size_t>((2 * i + 1) * all / (2 * count))]);
    }
    return prune(removed, false);
  }
};

const MethodRegistration registration{"stride",
                                      {.summary = "a control: tokens are pruned at equal distances",
                                       .carry = false,
                                       .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
                                         return std::make_shared<Stride>(input);
                                       }}};

}  // namespace
}  // namespace molt
