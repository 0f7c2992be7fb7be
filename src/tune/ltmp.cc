#include "tune/ltmp.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/check.h"
#include "base/fail.h"
#include "model/raw_states.h"
#include "reduction/core.h"
#include "reduction/pass.h"
#include "reduction/schedule.h"
#include "tune/texts.h"
#include "tune/whole_prompts.h"

namespace molt {
namespace {

constexpr std::int64_t kWindow = 1024;
constexpr std::int64_t kRowsAtOnce = 2048;  // of windows that go through the layers together, at least one
constexpr std::int64_t kCalibrationWindows = 32;
constexpr std::int64_t kApartWindows = 16;
constexpr std::int64_t kFewestWindows = 4;

/// What one site showed.
struct Scores {
  std::int64_t tokens = 0;    // that got there
  std::vector<float> values;  // of those that might leave
};

enum class Score { importance, similarity };

/// Reduces as calibrated up to a site, notes the scores there, and ends the windows: nobody asks what lies behind.
class Collector final : public Reducer {
 public:
  Collector(const LtmpThresholds& thresholds, std::size_t site, Score score, Scores& scores)
      : site_(thresholds.sites[site]), score_(score), reducer_(make_ltmp(thresholds, false)), scores_(scores) {}

  std::vector<std::int64_t> sites() const override {
    std::vector<std::int64_t> sites = reducer_->sites();
    sites.erase(std::upper_bound(sites.begin(), sites.end(), site_), sites.end());
    return sites;
  }

  Plan plan(const Site& site) const override {
    if (site.layer() < site_) return reducer_->plan(site);
    scores_.tokens += site.tokens();
    if (score_ == Score::importance) {
      const std::vector<float> importance = ltmp_importance(site);
      for (const std::int64_t t : unprotected_tokens(site)) {
        scores_.values.push_back(importance[static_cast<std::size_t>(t)]);
      }
    } else {
      // This site's threshold for pruning is known by now; its plan merges nothing yet.
      std::vector<std::int64_t> pruned;
      for (const Departure& departure : reducer_->plan(site).departures) pruned.push_back(departure.token);
      for (const Edge& edge : ltmp_merges(site, all_but(site, pruned))) scores_.values.push_back(edge.similarity);
    }
    return prune(unprotected_tokens(site), false);
  }

 private:
  std::int64_t site_;
  Score score_;
  std::shared_ptr<const Reducer> reducer_;
  Scores& scores_;  // one thread asks
};

/// Runs windows, a few at a time, each on its own, and gives their records.
std::vector<ReductionRecord> run_windows(const ModelCore& model, const Windows& windows,
                                         std::shared_ptr<const Reducer> reducer) {
  Reduction::Core reduction;
  reduction.method = "ltmp";
  reduction.reducer = std::move(reducer);
  Arena arena(model.backend().memory());
  Arena parked(model.backend().memory());
  std::vector<ReductionRecord> records;
  for (std::size_t begin = 0; begin < windows.size();) {
    std::vector<TokenId> ids;
    std::vector<std::int64_t> offsets{0};
    std::size_t end = begin;
    for (; end < windows.size() && (end == begin || offsets.back() + std::ssize(windows[end]) <= kRowsAtOnce); ++end) {
      ids.insert(ids.end(), windows[end].begin(), windows[end].end());
      offsets.push_back(std::ssize(ids));
    }
    const RawStates states(model, end - begin);
    WholePrompts prompts(model, reduction, offsets);
    arena.reset();
    parked.reset();
    ReducedPass pass(prompts.pieces(), model, arena, parked);
    model.forward({ids, offsets, states.pointers()}, arena, &pass);
    std::move(prompts.records().begin(), prompts.records().end(), std::back_inserter(records));
    begin = end;
  }
  return records;
}

/// A threshold below which `count` of `values` lie: `none` for no count, `all` for no fewer than there are.
double threshold_for(std::vector<float> values, std::int64_t count, double none, double all) {
  if (count <= 0) return none;
  if (count >= std::ssize(values)) return all;
  const auto at = values.begin() + count;
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

std::int64_t scaled(std::int64_t count, double effort) {
  return std::max<std::int64_t>(kFewestWindows, std::llround(static_cast<double>(count) * effort));
}

Windows take_windows(const Documents& documents, std::int64_t count, std::uint64_t seed, const char* use) {
  Windows taken = windows(documents, kWindow, count, seed);
  if (std::ssize(taken) < kFewestWindows) {
    fail(
        "the calibration text is too short: it gives {} windows of {} tokens {}, of the {} that are needed at least; "
        "some 30 documents over {} tokens, separated by <|endoftext|>, are enough",
        taken.size(), kWindow, use, kFewestWindows, kWindow);
  }
  return taken;
}

}  // namespace

LtmpThresholds calibrate_ltmp(const ModelCore& model, const std::vector<std::int64_t>& sites, const Windows& windows,
                              double flops,
                              const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const Schedule schedule = solve_schedule(sites, model.config().n_layer, flops, Ramp::flat);
  LtmpThresholds thresholds{sites, std::vector<double>(sites.size(), LtmpThresholds::kPruneNone),
                            std::vector<double>(sites.size(), LtmpThresholds::kMergeNone)};
  const auto scores_at = [&](std::size_t site, Score score) {
    Scores scores;
    run_windows(model, windows, std::make_shared<Collector>(thresholds, site, score, scores));
    return scores;
  };
  for (std::size_t site = 0; site < sites.size(); ++site) {
    const double removed = 1 - schedule.ratios[site];
    const double merged = std::min(removed / 2, 1 - removed);
    Scores scores = scores_at(site, Score::importance);
    const auto count = [&](double share) { return std::llround(share * static_cast<double>(scores.tokens)); };
    thresholds.prune_below[site] =
        threshold_for(scores.values, count(removed - merged), LtmpThresholds::kPruneNone, -LtmpThresholds::kPruneNone);
    scores = scores_at(site, Score::similarity);
    for (float& value : scores.values) value = -value;  // the most similar come first
    thresholds.merge_above[site] =
        -threshold_for(scores.values, count(merged), -LtmpThresholds::kMergeNone, LtmpThresholds::kMergeNone);
    if (progress) progress(static_cast<std::int64_t>(site + 1), std::ssize(sites));
  }
  return thresholds;
}

Cuts measure_cuts(const ModelCore& model, const LtmpThresholds& thresholds, const Windows& windows) {
  MOLT_CHECK(!windows.empty());
  const std::vector<ReductionRecord> records = run_windows(model, windows, make_ltmp(thresholds, false));
  Cuts cuts{std::ssize(windows), 0, records.front().cut(), records.front().cut()};
  for (const ReductionRecord& record : records) {
    cuts.mean += record.cut() / static_cast<double>(windows.size());
    cuts.least = std::min(cuts.least, record.cut());
    cuts.most = std::max(cuts.most, record.cut());
  }
  return cuts;
}

TunedLtmp tune_ltmp(const Model& model, const std::string& text, const TuneOptions& options) {
  check_options(options);
  check_tunable(model);
  const ModelCore& core = *model.core();
  Texts texts = split_text(model, text);
  Documents documents = std::move(texts.maps);
  documents.insert(documents.end(), std::make_move_iterator(texts.search.begin()),
                   std::make_move_iterator(texts.search.end()));
  const Windows calibration =
      take_windows(documents, scaled(kCalibrationWindows, options.effort), options.seed, "to calibrate on");
  const Windows apart =
      take_windows(texts.apart, scaled(kApartWindows, options.effort), options.seed, "to hold apart (a fifth of it)");

  TunedLtmp tuned;
  tuned.thresholds = calibrate_ltmp(core, paper_sites(core.config().n_layer), calibration, options.flops,
                                    [&](std::int64_t done, std::int64_t total) {
                                      if (options.progress) options.progress("calibrating site by site", done, total);
                                    });
  tuned.calibration = measure_cuts(core, tuned.thresholds, calibration);
  tuned.apart = measure_cuts(core, tuned.thresholds, apart);
  Reduction::Core mine;
  mine.method = "ltmp";
  mine.reducer = make_ltmp(tuned.thresholds, false);
  const ProbeSet probes = continuations(texts.apart, kWindow, scaled(kApartWindows, options.effort), options.seed);
  tuned.judged = judge(model, probes, mine, tuned.apart.mean);
  return tuned;
}

void save_ltmp(const LtmpThresholds& thresholds, double flops, const std::string& path) {
  nlohmann::ordered_json json;
  json["method"] = "ltmp";
  json["flops"] = flops;
  json["sites"] = thresholds.sites;
  json["prune_below"] = thresholds.prune_below;
  json["merge_above"] = thresholds.merge_above;
  write_file(path, json.dump(1) + "\n");
}

}  // namespace molt
