// utr-released: what the code published with "Rethinking Token Reduction for State Space Models" (Zhan et al., EMNLP
// 2024, arXiv 2410.14725) does with its default metric.
//
// It sorts every channel of the metric by itself and so loses the tokens' indices; what remains is one choice for every
// input: the tokens at current indices 0, 2, 4, ... are removed and merged into index 1, on both branches. Importance
// and similarity play no part. The first token is not protected. (The zeroing of smaller values, channel by channel,
// that its hybrid adds is left out.) At most every second token can go at a site.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class UtrReleased final : public ScheduledReducer {
 public:
  using ScheduledReducer::ScheduledReducer;

  Measures measures() const override { return {.output = false, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override {
    constexpr std::int64_t kTarget = 1;
    Plan plan;
    if (site.tokens() <= kTarget) return plan;
    for (std::int64_t t = 0; t < site.tokens() && count > 0; t += 2) {
      if (site.is_protected()[static_cast<std::size_t>(t)] != 0) continue;
      plan.departures.push_back({.token = t, .hidden_into = kTarget, .residual_into = kTarget});
      --count;
    }
    return plan;
  }
};

const MethodRegistration registration{
    "utr-released",
    {.summary = "what that paper's published code does: every second token from the first on goes into the second one",
     .carry = false,
     .protect_first = 0,
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
       return std::make_shared<UtrReleased>(input);
     }}};

}  // namespace
}  // namespace molt
