// ltmp: thresholds in place of counts, after "Learned Thresholds Token Merging and Pruning for Vision Transformers",
// Bonnaerens & Dambre, TMLR 2023 (arXiv 2307.10780).
//
// At a site, tokens of less importance (S of Zhan et al., EMNLP 2024, Eq. 5) than `prune_below` are pruned. Of those
// that remain, every second one is merged into the most similar of the others, by the scan's output, if that is more
// similar than `merge_above`. So easy prompts lose many tokens and hard ones few.
//
// The original learns its thresholds: it fine-tunes them alone, through soft masks, by gradient descent on the task's
// loss with a penalty for the distance from the wanted FLOPs, and takes importance from attention. Here they are
// calibrated: `molt tune --method ltmp` sets them to quantiles of what a calibration text shows, so that the mean cut
// is the one asked for.
#include "reduction/ltmp.h"

#include <algorithm>

#include "base/fail.h"
#include "reduction/schedule.h"

namespace molt {
namespace {

class Ltmp final : public Reducer {
 public:
  Ltmp(LtmpThresholds thresholds, bool carry) : thresholds_(std::move(thresholds)), carry_(carry) {}

  std::vector<std::int64_t> sites() const override { return thresholds_.sites; }

  Measures measures() const override { return {.output = true, .contribution = false}; }

  Plan plan(const Site& site) const override {
    const auto& sites = thresholds_.sites;
    const auto at = static_cast<std::size_t>(std::find(sites.begin(), sites.end(), site.layer()) - sites.begin());
    const auto prune_below = static_cast<float>(thresholds_.prune_below[at]);
    const auto merge_above = static_cast<float>(thresholds_.merge_above[at]);
    const std::int64_t most = site.tokens() - 2;  // as everywhere, two tokens stay

    const std::vector<float> importance = ltmp_importance(site);
    std::vector<std::int64_t> pruned;
    for (const std::int64_t t : unprotected_tokens(site)) {
      if (importance[static_cast<std::size_t>(t)] < prune_below) pruned.push_back(t);
    }
    pruned = least(std::span(importance), std::move(pruned), most);
    Plan plan = prune(pruned, carry_);
    merge(site, all_but(site, pruned), merge_above, most - static_cast<std::int64_t>(pruned.size()), plan);
    return plan;
  }

 private:
  /// Merges those of `remaining` that are similar enough to another, `most` of them at most.
  static void merge(const Site& site, std::span<const std::int64_t> remaining, float merge_above, std::int64_t most,
                    Plan& plan) {
    if (merge_above >= 1 || most <= 0) return;
    std::vector<Edge> edges = ltmp_merges(site, remaining);
    std::erase_if(edges,
                  [merge_above](const Edge& edge) { return !(edge.target >= 0 && edge.similarity > merge_above); });
    for (const Edge& edge : most_similar(std::move(edges), most)) {
      plan.departures.push_back({.token = edge.source, .hidden_into = edge.target, .residual_into = edge.target});
    }
    sort_departures(plan);
  }

  LtmpThresholds thresholds_;
  bool carry_;
};

std::vector<double> read_thresholds(const OptionValues& options, std::string_view key, double none,
                                    std::span<const std::int64_t> sites) {
  if (!options.has(key)) return std::vector<double>(sites.size(), none);
  std::vector<double> values = options.numbers(key);
  if (values.size() == 1) values.resize(sites.size(), values.front());
  if (values.size() != sites.size()) {
    fail("{} has {} numbers for {} sites ({}); one is wanted for all of them, or one for each", key, values.size(),
         sites.size(), fmt::join(sites, "+"));
  }
  return values;
}

std::shared_ptr<const Reducer> make(const MethodInput& input) {
  const OptionValues& options = input.options;
  if (!options.has("prune_below") && !options.has("merge_above")) {
    fail(
        "ltmp has no thresholds: calibrate them with `molt tune --method ltmp`, or give prune_below and merge_above, "
        "one number for all sites or one for each, a+b+c");
  }
  LtmpThresholds thresholds;
  thresholds.sites = options.has("sites") ? options.integers("sites") : paper_sites(input.model.layers);
  thresholds.prune_below = read_thresholds(options, "prune_below", LtmpThresholds::kPruneNone, thresholds.sites);
  thresholds.merge_above = read_thresholds(options, "merge_above", LtmpThresholds::kMergeNone, thresholds.sites);
  return make_ltmp(std::move(thresholds), input.carry);
}

OptionInfo list(std::string name, OptionInfo::Kind kind, double low, double high, std::string help) {
  return {
      .name = std::move(name), .kind = kind, .default_value = "", .help = std::move(help), .low = low, .high = high};
}

const MethodRegistration registration{
    "ltmp",
    {.summary = "thresholds for pruning and merging in place of counts (LTMP, Bonnaerens & Dambre, TMLR 2023)",
     .uses_schedule = false,
     .counts_by_content = true,
     .carry = false,
     .options = {list("sites", OptionInfo::Kind::integers, 0, 1e6,
                      "the blocks behind which to look; the paper's, scaled, when left out"),
                 list("prune_below", OptionInfo::Kind::numbers, LtmpThresholds::kPruneNone, -LtmpThresholds::kPruneNone,
                      "importance below which a token is pruned, one or one a site"),
                 list("merge_above", OptionInfo::Kind::numbers, -LtmpThresholds::kMergeNone, LtmpThresholds::kMergeNone,
                      "similarity above which it is merged, one or one a site")},
     .make = &make}};

}  // namespace

std::vector<float> ltmp_importance(const Site& site) {
  return site.importance(Importance::clip);
}

std::vector<Edge> ltmp_merges(const Site& site, std::span<const std::int64_t> remaining) {
  std::vector<std::int64_t> sources;
  std::vector<std::int64_t> targets;
  for (std::size_t i = 0; i < remaining.size(); ++i) {
    if (i % 2 == 1) {
      targets.push_back(remaining[i]);
    } else if (site.is_protected()[static_cast<std::size_t>(remaining[i])] == 0) {
      sources.push_back(remaining[i]);
    }
  }
  if (sources.empty() || targets.empty()) return {};
  return edges_of(sources, site.match(Feature::scan_output, sources, targets, false));
}

std::shared_ptr<const Reducer> make_ltmp(LtmpThresholds thresholds, bool carry) {
  return std::make_shared<Ltmp>(std::move(thresholds), carry);
}

}  // namespace molt
