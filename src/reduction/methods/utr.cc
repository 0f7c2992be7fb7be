// utr: "Rethinking Token Reduction for State Space Models", Zhan et al., EMNLP 2024 (arXiv 2410.14725), as the paper
// writes it, section 4. (What its published code does is utr_released.cc.)
//
// Importance S is read off the scan's output (Eq. 5). Of N tokens the floor(N/2) least important form M_A, the others
// M_B. Each token of M_A has an edge to the most similar one of M_B (Eq. 6, 7); the most similar edges are taken, as
// many tokens as must go. Intra-layer design: the share q of them, the least similar (the paper does not say which), is
// pruned on the hidden branch, the others are merged there; on the residual branch all are merged. Merging is the mean
// of a target and all its sources.
//
// Where a schedule takes more than half of the tokens at one site, which the paper does not foresee, M_A grows to that
// number.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

/// How the tokens that go are treated on a branch.
enum class Treatment { hybrid, merge, prune };

Treatment treatment_of(const std::string& name) {
  if (name == "merge") return Treatment::merge;
  return name == "prune" ? Treatment::prune : Treatment::hybrid;
}

Importance importance_of(const std::string& name) {
  if (name == "l1") return Importance::l1;
  if (name == "l2") return Importance::l2;
  return name == "signed" ? Importance::signed_mean : Importance::clip;
}

Feature feature_of(const std::string& name) {
  if (name == "h") return Feature::block_output;
  return name == "r+h" ? Feature::stream : Feature::scan_output;
}

class Utr final : public ScheduledReducer {
 public:
  explicit Utr(const MethodInput& input)
      : ScheduledReducer(input),
        metric_(importance_of(input.options.text("metric"))),
        feature_(feature_of(input.options.text("feature"))),
        hidden_(treatment_of(input.options.text("hidden"))),
        residual_(treatment_of(input.options.text("residual"))),
        q_(input.options.number("q")),
        later_only_(input.options.text("direction") == "later") {}

  Measures measures() const override { return {.output = true, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override { return begin_choice(site, count)(); }

  std::function<Plan()> begin_choice(const Site& site, std::int64_t count) const override {
    const std::vector<float> importance = site.importance(metric_);
    const std::vector<std::int64_t> a =
        least(std::span(importance), unprotected_tokens(site), std::max(site.tokens() / 2, count));
    const Site::Matches matches = site.ask_match(feature_, a, all_but(site, a), later_only_);
    return [this, count, a, matches] { return plan_of(most_similar(edges_of(a, matches()), count)); };
  }

  /// Of the edges that are taken.
  Plan plan_of(const std::vector<Edge>& edges) const {
    // The floor keeps the product's rounding out: 0.29 * 100 is 28.999...
    const auto pruned = static_cast<std::size_t>(q_ * static_cast<double>(edges.size()) + 1e-9);
    Plan plan;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      const bool alike = i < edges.size() - pruned;
      plan.departures.push_back({.token = edges[i].source,
                                 .hidden_into = target(hidden_, alike, edges[i].target),
                                 .residual_into = target(residual_, alike, edges[i].target)});
    }
    sort_departures(plan);
    return plan;
  }

  static std::int64_t target(Treatment treatment, bool alike, std::int64_t target) {
    const bool merged = treatment == Treatment::merge || (treatment == Treatment::hybrid && alike);
    return merged ? target : Departure::kPruned;
  }

  Importance metric_;
  Feature feature_;
  Treatment hidden_;
  Treatment residual_;
  double q_;
  bool later_only_;
};

const MethodRegistration registration{
    "utr",
    {.summary = "the paper's UTR: unimportant tokens go into similar ones (Zhan et al., EMNLP 2024)",
     .carry = false,
     .options = {choice_option("metric", {"clip", "l1", "l2", "signed"},
                               "importance: mean of max(0, y), |y|, y, or root mean square"),
                 choice_option("feature", {"y", "h", "r+h"}, "similarity of scan outputs, block outputs or the stream"),
                 choice_option("hidden", {"hybrid", "merge", "prune"}, "what happens on the hidden branch"),
                 choice_option("residual", {"merge", "prune", "hybrid"}, "what happens on the residual branch"),
                 number_option("q", 0.5, 0, 1, "the share that hybrid prunes, the least similar"),
                 choice_option("direction", {"any", "later"}, "merge into any token, or only into later ones")},
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> { return std::make_shared<Utr>(input); }}};

}  // namespace
}  // namespace molt
