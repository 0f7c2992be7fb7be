// molt tune: finds a reduction schedule for a model.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "command.h"
#include "model_options.h"
#include "output.h"
#include "progress.h"
#include "reduction/write_maps.h"
#include "tune/ltmp.h"
#include "tune/tune.h"

namespace molt::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string text;
  std::string out;
  std::string method = "surrogate";
  TuneOptions tune;
  bool json = false;
};

nlohmann::json to_json(const std::vector<Judged>& judged) {
  nlohmann::json lines = nlohmann::json::array();
  for (const Judged& line : judged) {
    lines.push_back({{"probes", line.set},
                     {"method", line.method},
                     {"kl", line.loss.kl},
                     {"nll_increase", line.loss.nll},
                     {"cut", line.loss.cut}});
  }
  return lines;
}

nlohmann::json to_json(const Tuned& tuned) {
  nlohmann::json classes = nlohmann::json::array();
  for (const TunedClass& found : tuned.classes) {
    nlohmann::json entry = {{"prompts", found.name}, {"cut", found.cut}};
    if (found.up_to) entry["up_to"] = *found.up_to;
    for (const SurrogateTier& tier : found.rule.tiers) {
      entry["tiers"].push_back({{"until", tier.until}, {"ops", tier.ops}});
    }
    for (const Sensitivity& s : found.sensitivities) {
      entry["sensitivities"].push_back({{"tier", s.tier}, {"layer", s.layer}, {"skipped", s.skipped}});
    }
    entry["held_apart"] = to_json(found.judged);
    classes.push_back(std::move(entry));
  }
  return {{"method", "surrogate"}, {"classes", classes}};
}

nlohmann::json to_json(const Cuts& cuts) {
  return {{"windows", cuts.windows}, {"mean", cuts.mean}, {"least", cuts.least}, {"most", cuts.most}};
}

nlohmann::json to_json(const TunedLtmp& tuned) {
  nlohmann::json sites = nlohmann::json::array();
  for (std::size_t i = 0; i < tuned.thresholds.sites.size(); ++i) {
    sites.push_back({{"site", tuned.thresholds.sites[i]},
                     {"prune_below", tuned.thresholds.prune_below[i]},
                     {"merge_above", tuned.thresholds.merge_above[i]}});
  }
  return {{"method", "ltmp"},
          {"sites", sites},
          {"cut_on_calibration_text", to_json(tuned.calibration)},
          {"cut_on_text_held_apart", to_json(tuned.apart)},
          {"held_apart", to_json(tuned.judged)}};
}

/// What leaving a block out costs, tier by tier: 100 is what truncation costs at the wanted cut.
void print_sensitivities(const TunedClass& found) {
  fmt::print("  left out alone, in % of what truncation loses (oldest tier first)\n  block ");
  for (std::size_t tier = 0; tier < found.rule.tiers.size(); ++tier) {
    fmt::print(" {:>7}", fmt::format("to {:.0f}%", 100 * found.rule.tiers[tier].until));
  }
  std::int64_t layers = 0;
  for (const Sensitivity& s : found.sensitivities) layers = std::max(layers, s.layer + 1);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    fmt::print("\n  {:>5} ", layer);
    for (std::size_t tier = 0; tier < found.rule.tiers.size(); ++tier) {
      const auto it = std::find_if(found.sensitivities.begin(), found.sensitivities.end(),
                                   [&](const Sensitivity& s) { return s.tier == tier && s.layer == layer; });
      fmt::print(" {:>7}", it == found.sensitivities.end() ? "-" : fmt::format("{:.1f}", 100 * it->skipped));
    }
  }
  fmt::print("\n");
}

void print_judged(const std::vector<Judged>& judged) {
  if (judged.empty()) {
    fmt::print("  no document held apart is long enough to judge by\n");
    return;
  }
  fmt::print("  on text held apart:\n  {:<13} {:<10} {:>8} {:>14} {:>7}\n", "", "method", "KL", "NLL increase", "cut");
  for (const Judged& line : judged) {
    fmt::print("  {:<13} {:<10} {:>8.4f} {:>14.4f} {:>6.1f}%\n", line.set, line.method, line.loss.kl, line.loss.nll,
               100 * line.loss.cut);
  }
}

void print(const Tuned& tuned) {
  for (const TunedClass& found : tuned.classes) {
    fmt::print("\nprompts {}: {:.1f}% of FLOPs cut (F full, L and W write only, S skipped)\n",
               found.up_to ? fmt::format("of up to {} tokens", *found.up_to) : "longer than that", 100 * found.cut);
    double from = 0;
    for (const SurrogateTier& tier : found.rule.tiers) {
      fmt::print("  {:>3.0f} - {:>3.0f}%  {}\n", 100 * from, 100 * tier.until, tier.ops);
      from = tier.until;
    }
    print_sensitivities(found);
    print_judged(found.judged);
  }
}

void print(const TunedLtmp& tuned) {
  fmt::print("\n  {:>5} {:>12} {:>12}\n", "site", "prune below", "merge above");
  for (std::size_t i = 0; i < tuned.thresholds.sites.size(); ++i) {
    fmt::print("  {:>5} {:>12.4g} {:>12.4f}\n", tuned.thresholds.sites[i], tuned.thresholds.prune_below[i],
               tuned.thresholds.merge_above[i]);
  }
  const auto print_cuts = [](const char* text, const Cuts& cuts) {
    fmt::print("  cut on {}: {:.1f}% on average, {:.1f} to {:.1f}% by window ({} windows)\n", text, 100 * cuts.mean,
               100 * cuts.least, 100 * cuts.most, cuts.windows);
  };
  print_cuts("calibration text", tuned.calibration);
  print_cuts("text held apart", tuned.apart);
  print_judged(tuned.judged);
}

template <class Found>
void show(const Found& found, bool json) {
  if (json) {
    std::cout << json_text(to_json(found), 2) << "\n";
  } else {
    print(found);
  }
}

void run(Options& options) {
  if (!options.out.ends_with(".json")) {
    fail("--out {}: the schedule is a JSON file; give a name that ends in .json", options.out);
  }
  const bool by_ltmp = options.method == "ltmp";
  check_output(options.out);
  if (!by_ltmp) {
    check_output(maps_path(options.out));
    WriteMaps::check_replaceable(maps_path(options.out));
  }
  check_options(options.tune);
  const std::string text = read_text(options.text);
  const Model model = options.model.load();
  std::string what;
  std::unique_ptr<Progress> progress;
  options.tune.progress = [&](const std::string& now, std::int64_t done, std::int64_t total) {
    if (now != what) progress = std::make_unique<Progress>(what = now);
    progress->update(done, total);
  };
  if (by_ltmp) {
    const TunedLtmp tuned = tune_ltmp(model, text, options.tune);
    progress.reset();
    save_ltmp(tuned.thresholds, options.tune.flops, options.out);
    show(tuned, options.json);
    fmt::print(stderr, "{} written; use it with --reduce {}\n", options.out, options.out);
  } else {
    const Tuned tuned = tune(model, text, options.tune);
    progress.reset();
    save_schedule(tuned, model, options.tune.flops, options.out);
    show(tuned, options.json);
    fmt::print(stderr, "{} and {} written; use them with --reduce {}\n", options.out, maps_path(options.out),
               options.out);
  }
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  app.remove_option(app.get_option("--state"));  // what is tuned for exact states serves rounded ones as well
  app.add_option("--text", options->text,
                 "Calibration text: some 2 MB like what the model will read; documents separated by <|endoftext|>")
      ->type_name("FILE")
      ->required();
  app.add_option("-o,--out", options->out,
                 "The schedule to write (JSON; the maps of a surrogate go beside it as .safetensors)")
      ->type_name("FILE.json")
      ->required();
  app.add_option("--method", options->method,
                 "surrogate: search which blocks older tokens leave out, and fit their maps; ltmp: calibrate the "
                 "thresholds of the method of that name, for comparison")
      ->type_name("surrogate|ltmp")
      ->check(CLI::IsMember({"surrogate", "ltmp"}))
      ->capture_default_str();
  app.add_option("--flops", options->tune.flops, "The share of FLOPs to cut")
      ->type_name("F")
      ->check(CLI::Range(0.01, 0.9))
      ->capture_default_str();
  app.add_option("--effort", options->tune.effort,
                 "How much text each step uses, relative to the usual amount: less is faster and less certain")
      ->type_name("X")
      ->check(CLI::Range(0.05, 20.0))
      ->capture_default_str();
  app.add_option("--seed", options->tune.seed, "Of the choice of texts")->type_name("N")->capture_default_str();
  app.add_flag("--json", options->json, "Print one JSON object: what was found, and losses on text held apart");
  app.footer(
      "Finds which blocks older tokens of a prompt may leave out, so that what follows the prompt changes least, and "
      "fits the maps by which they go on writing to the states. A 50M model takes about half an hour on two cores.\n"
      "With --method ltmp it sets ltmp's thresholds so that the mean cut is the one asked for: a few minutes.\n"
      "Example:\n"
      "  molt tune models/demo --text calibration.txt --flops 0.3 --out schedule.json\n"
      "  molt generate models/demo --prompt-file page.txt --reduce schedule.json");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"tune",
                                         {"Find a token reduction schedule for a model on calibration text", &setup}};

}  // namespace
}  // namespace molt::cli
