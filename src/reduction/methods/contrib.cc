// contrib: the tokens of which least is left in the block's state behind the window go (Site::contribution()). Our own;
// it needs no attention and no training: dt, B, x and the decay say what a token still weighs.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Contrib final : public ScheduledReducer {
 public:
  using ScheduledReducer::ScheduledReducer;

  Measures measures() const override { return {.output = false, .contribution = true}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override {
    const std::vector<float> contribution = site.contribution();
    return prune(least(std::span(contribution), unprotected_tokens(site), count), false);
  }
};

const MethodRegistration registration{"contrib",
                                      {.summary = "the tokens go of which least is left in the block's state (ours)",
                                       .carry = true,
                                       .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
                                         return std::make_shared<Contrib>(input);
                                       }}};

}  // namespace
}  // namespace molt
