#include "tune/tune.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "reduction/core.h"
#include "tune/texts.h"

namespace molt {
namespace {

constexpr std::int64_t kShort = 192;        // prompts below it have a rule of their own
constexpr std::int64_t kShortWindow = 112;  // tokens of the windows that their maps are fitted on
constexpr std::int64_t kLong = 1024;        // the prompts that the long rule is judged by, and its maps' windows
constexpr std::int64_t kRecall = 512;
constexpr std::int64_t kMapTokens = 65536;  // of text that maps are fitted on
constexpr std::int64_t kStageSets = 4;      // sets of fresh text that stages use in turn
constexpr std::int64_t kFewestMapWindows = 4;
constexpr double kMemory = 3e9;  // bytes, for fitting

std::int64_t scaled(std::int64_t count, double effort) {
  return std::max<std::int64_t>(2 * kStageSets, std::llround(static_cast<double>(count) * effort));
}

/// The i-th of `parts` parts of a set.
ProbeSet part(const ProbeSet& set, std::size_t i, std::size_t parts) {
  ProbeSet result{set.name, {}};
  for (std::size_t p = i; p < set.probes.size(); p += parts) result.probes.push_back(set.probes[p]);
  return result;
}

class Tuner {
 public:
  Tuner(const Model& model, const std::string& text, const TuneOptions& options)
      : model_(model), core_(*model.core()), options_(options), texts_(split_text(model, text)) {}

  Tuned run() {
    // All that may be missing is missed before the first search, which takes long.
    const PromptClass short_prompts = short_class();
    const PromptClass long_prompts = long_class();
    const Windows short_windows = map_windows(kShortWindow);
    const Windows long_windows = map_windows(kLong);
    Tuned tuned;
    add_class(short_prompts, short_windows, tuned);
    add_class(long_prompts, long_windows, tuned);
    return tuned;
  }

 private:
  using Sets = std::vector<ProbeSet>;

  [[noreturn]] static void too_short(std::int64_t found, const std::string& what, std::int64_t needed) {
    fail(
        "the calibration text is too short: it gives {} {} of the {} that the search needs at least; some 2 MB of "
        "documents, separated by <|endoftext|>, many of them over {} tokens, are enough",
        found, what, needed, kLong);
  }

  /// Windows of `length` tokens for fitting maps on.
  Windows map_windows(std::int64_t length) const {
    Windows found = windows(texts_.maps, length, scaled(kMapTokens / length, options_.effort), options_.seed);
    if (std::ssize(found) < kFewestMapWindows) {
      too_short(std::ssize(found), fmt::format("windows of {} tokens for its maps", length), kFewestMapWindows);
    }
    return found;
  }

  /// A set, checked and cut into one part for each stage in turn.
  void add_set(PromptClass& prompts, const ProbeSet& set) {
    if (std::ssize(set.probes) < 2 * kStageSets) {
      too_short(std::ssize(set.probes), fmt::format("'{}' prompts", set.name), 2 * kStageSets);
    }
    for (std::size_t stage = 0; stage < prompts.by_stage.size(); ++stage) {
      prompts.by_stage[stage].push_back(part(set, stage, prompts.by_stage.size()));
    }
  }

  Sets short_sets(const Documents& documents, std::int64_t count) {
    return {words(core_, documents, scaled(count, options_.effort), options_.seed)};
  }

  Sets long_sets(const Documents& documents, std::int64_t count) {
    const std::vector<TokenId> separator = model_.tokenizer().encode("\n\n");
    return {continuations(documents, kLong, scaled(count, options_.effort), options_.seed),
            recalls(documents, kRecall, separator, scaled(2 * count, options_.effort), options_.seed)};
  }

  PromptClass short_class() {
    PromptClass prompts{"short", kShort - 1, {.35, .65, .85, .94}, {}};
    prompts.by_stage.resize(kStageSets);
    for (const ProbeSet& set : short_sets(texts_.search, 480)) add_set(prompts, set);
    return prompts;
  }

  PromptClass long_class() {
    PromptClass prompts{"long", std::nullopt, {.2, .4, .6, .75, .88}, {}};
    prompts.by_stage.resize(kStageSets);
    for (const ProbeSet& set : long_sets(texts_.search, 32)) add_set(prompts, set);
    return prompts;
  }

  void add_class(const PromptClass& prompts, const Windows& texts, Tuned& tuned) {
    MapFitter fitter(core_, MapFitter::reach_within(core_, kMemory));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      fitter.add(texts[i]);
      report(fmt::format("{} prompts: measuring activations", prompts.name), static_cast<std::int64_t>(i + 1),
             static_cast<std::int64_t>(texts.size()));
    }
    SearchOptions options;
    options.flops = options_.flops;
    options.rule = static_cast<std::int64_t>(tuned.schedule.size());
    options.progress = [&](std::int64_t done, std::int64_t total) {
      report(fmt::format("{} prompts: searching", prompts.name), done, total);
    };
    SearchResult found = search(core_, prompts, fitter, options);
    tuned.schedule.push_back(found.rule);
    tuned.maps.merge(found.maps);
    TunedClass result{prompts.name, prompts.up_to, found.rule, found.cut, found.sensitivities, {}};
    judge_class(prompts, tuned, result);
    tuned.classes.push_back(std::move(result));
  }

  /// Holds what was found against others at its own cut, on text that nothing was chosen by.
  void judge_class(const PromptClass& prompts, const Tuned& tuned, TunedClass& result) {
    const Sets sets = prompts.name == "short" ? short_sets(texts_.apart, 200) : long_sets(texts_.apart, 24);
    Reduction::Core mine;
    mine.method = "surrogate";
    SurrogateRule rule = result.rule;
    rule.up_to.reset();
    mine.reducer = make_surrogate({rule}, core_.config().n_layer, false, [&](WriteMapKey key) {
      key.rule = static_cast<std::int64_t>(tuned.schedule.size()) - 1;
      return WriteMaps::pack(tuned.maps.at(key), key, core_, "the fitted maps");
    });
    for (const ProbeSet& set : sets) {
      const std::vector<Judged> judged = judge(model_, set, mine, result.cut);
      result.judged.insert(result.judged.end(), judged.begin(), judged.end());
    }
  }

  void report(const std::string& what, std::int64_t done, std::int64_t total) const {
    if (options_.progress) options_.progress(what, done, total);
  }

  const Model& model_;
  const ModelCore& core_;
  const TuneOptions& options_;
  Texts texts_;
};

}  // namespace

void check_options(const TuneOptions& options) {
  if (!(options.flops > 0 && options.flops <= 0.9)) {
    fail("the cut must lie above 0 and be at most 0.9, not {}", options.flops);
  }
  if (!(options.effort >= 0.01 && options.effort <= 100)) {
    fail("the effort must lie between 0.01 and 100, not {}", options.effort);
  }
}

void check_tunable(const Model& model) {
  if (const auto block = model.core()->first_without_scan()) {
    fail("{}: schedules are searched for state space models; block {} of this one is {}", model.source(), *block,
         model.core()->block(*block).kind());
  }
}

Tuned tune(const Model& model, const std::string& text, const TuneOptions& options) {
  check_options(options);
  check_tunable(model);
  return Tuner(model, text, options).run();
}

std::string maps_path(const std::string& path) {
  return std::filesystem::path(path).replace_extension(".safetensors").string();
}

void save_schedule(const Tuned& tuned, const Model& model, double flops, const std::string& path) {
  nlohmann::ordered_json json;
  json["method"] = "surrogate";
  json["flops"] = flops;
  json["maps"] = std::filesystem::path(maps_path(path)).filename().string();
  json["rules"] = nlohmann::json::array();
  for (const SurrogateRule& rule : tuned.schedule) {
    nlohmann::ordered_json entry;
    if (rule.up_to) entry["up_to"] = *rule.up_to;
    entry["tiers"] = nlohmann::json::array();
    for (const SurrogateTier& tier : rule.tiers) {
      nlohmann::ordered_json written;
      written["until"] = tier.until;
      written["ops"] = tier.ops;
      entry["tiers"].push_back(written);
    }
    json["rules"].push_back(entry);
  }
  WriteMaps::save(maps_path(path), tuned.maps, *model.core());
  write_file(path, json.dump(1) + "\n");
}

}  // namespace molt
