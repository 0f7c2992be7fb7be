// pumer: bipartite soft matching, after "PuMer: Pruning and Merging Tokens for Efficient Vision Language Models", Cao
// et al., ACL 2023 (arXiv 2305.17530), whose merging is that of "Token Merging: Your ViT But Faster", Bolya et al.,
// ICLR 2023 (arXiv 2210.09461).
//
// Tokens at even current indices are sources, those at odd ones targets; each source has its most similar target, by
// the scan's output; the most similar edges are merged on both branches. At most the unprotected tokens at even indices
// can go at a site, so a schedule that wants more gets less.
#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Pumer final : public ScheduledReducer {
 public:
  using ScheduledReducer::ScheduledReducer;

  Measures measures() const override { return {.output = true, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override { return begin_choice(site, count)(); }

  std::function<Plan()> begin_choice(const Site& site, std::int64_t count) const override {
    std::vector<std::int64_t> sources;
    std::vector<std::int64_t> targets;
    for (std::int64_t t = 0; t < site.tokens(); ++t) {
      if (t % 2 == 1) {
        targets.push_back(t);
      } else if (site.is_protected()[static_cast<std::size_t>(t)] == 0) {
        sources.push_back(t);
      }
    }
    if (targets.empty()) return [] { return Plan{}; };
    const Site::Matches matches = site.ask_match(Feature::scan_output, sources, targets, false);
    return [count, sources, matches] {
      Plan plan;
      for (const Edge& edge : most_similar(edges_of(sources, matches()), count)) {
        plan.departures.push_back({.token = edge.source, .hidden_into = edge.target, .residual_into = edge.target});
      }
      sort_departures(plan);
      return plan;
    };
  }
};

const MethodRegistration registration{
    "pumer",
    {.summary = "every second token may go into the most similar of the others (PuMer, Cao et al., ACL 2023)",
     .carry = false,
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
       return std::make_shared<Pumer>(input);
     }}};

}  // namespace
}  // namespace molt
