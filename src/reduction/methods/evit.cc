// evit: the least important tokens are pruned, after "Not All Patches are What You Need: Expediting Vision Transformers
// via Token Reorganizations", Liang et al., ICLR 2022 (arXiv 2202.07800).
//
// The original's importance is the attention of the class token, which these models do not have; as in the comparison
// of Zhan et al. (EMNLP 2024) it is their S (Eq. 5) instead. The original fuses what it takes out into one more token,
// its mean weighted by importance; `fused` merges them, so weighted, into the least important unprotected token that
// stays.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Evit final : public ScheduledReducer {
 public:
  explicit Evit(const MethodInput& input) : ScheduledReducer(input), fused_(input.options.flag("fused")) {}

  Measures measures() const override { return {.output = true, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override {
    const std::vector<float> importance = site.importance(Importance::clip);
    const std::vector<std::int64_t> candidates = unprotected_tokens(site);
    const std::vector<std::int64_t> removed = least(std::span(importance), candidates, count);
    Plan plan = prune(removed, false);
    const std::vector<std::int64_t> target = least(std::span(importance), without(candidates, removed), 1);
    if (!fused_ || target.empty()) return plan;
    for (Departure& departure : plan.departures) departure.hidden_into = departure.residual_into = target.front();
    plan.weights = importance;
    return plan;
  }

  bool fused_;
};

const MethodRegistration registration{
    "evit",
    {.summary = "the least important tokens are pruned (after EViT, Liang et al., ICLR 2022)",
     .carry = false,
     .options = {flag_option("fused", false,
                             "merge them, weighted by importance, into the least important that stays")},
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> { return std::make_shared<Evit>(input); }}};

}  // namespace
}  // namespace molt
