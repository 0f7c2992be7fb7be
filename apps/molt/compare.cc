// molt compare: the dense model and reductions side by side on one text: what each saves, costs and writes.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "command.h"
#include "eval/evaluate.h"
#include "eval/report.h"
#include "eval/scoring.h"
#include "model/model.h"
#include "model_options.h"
#include "molt/generate.h"
#include "output.h"
#include "peak_memory.h"
#include "progress.h"
#include "reduce_option.h"
#include "report/comparison_page.h"
#include "run_facts.h"

namespace molt::cli {
namespace {

struct Options {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::string prompt_file;
  ReduceOption reduce;
  std::int64_t suffix = 64;
  std::int64_t max_tokens = 32;
  std::int64_t repeat = 3;
  std::int64_t window = 2048;
  bool bos = false;
  bool json = false;
  std::optional<std::string> html;
};

/// One way of reading the prompt, and what came of it.
struct Setting {
  std::string name;
  const Reduction* reduction;   // null: the dense model
  std::vector<double> seconds;  // of reading the prompt, each repetition
  std::int64_t scratch_bytes = 0;
  std::optional<std::int64_t> peak_memory_bytes;  // of the process while it read, where the system tells
  Generation generation;
  eval::Score score;  // of the suffix, if there is one

  double median_seconds() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
  double nll() const {
    const std::vector<float>& p = score.logprobs;
    return -std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(p.size());
  }
};

/// The text in two parts: what is read and reduced, and its own continuation, which is scored.
struct Text {
  std::vector<TokenId> prompt;
  std::vector<TokenId> suffix;
};

Text read_prompt(const Options& options, const Model& model) {
  const std::string where = options.prompt ? "--prompt" : options.prompt_file;
  std::vector<TokenId> ids;
  try {
    ids = model.tokenizer().encode(options.prompt ? *options.prompt : read_text(options.prompt_file));
  } catch (const Error& error) {
    const std::string_view what = error.what();
    if (what.starts_with(where)) throw;
    fail("{}: {}", where, what);
  }
  if (options.bos) ids.insert(ids.begin(), model.bos());
  const auto tokens = static_cast<std::int64_t>(ids.size());
  if (tokens <= options.suffix) {
    fail("{}: the text has {} tokens, of which --suffix {} are to be scored: give a longer text, or a smaller number",
         where, tokens, options.suffix);
  }
  const auto middle = ids.end() - options.suffix;
  return {{ids.begin(), middle}, {middle, ids.end()}};
}

/// What each setting expects of the suffix. Reads the prompt once a setting, which warms caches.
void score(const Options& options, const Model& model, const Text& text, std::vector<Setting>& settings) {
  if (text.suffix.empty()) return;
  const eval::Prompt prompt{text.prompt, {text.suffix}};
  const eval::Prompt* const batch[] = {&prompt};
  eval::Scorer scorer(model, options.window);
  eval::Distributions dense;
  for (Setting& setting : settings) {
    const bool is_dense = setting.reduction == nullptr;
    const auto outcomes =
        scorer.score(batch, setting.reduction, is_dense ? &dense : nullptr, is_dense ? nullptr : &dense);
    setting.score = outcomes.front().scores.front();
  }
}

/// Times reading the prompt, setting by setting and round by round, so that what disturbs the machine disturbs all
/// alike; and lets each setting go on by itself.
void measure(const Options& options, const Model& model, const Text& text, std::vector<Setting>& settings) {
  Progress progress("comparing");
  const auto rounds = options.repeat + 1;
  std::int64_t done = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (Setting& setting : settings) {
      Session session(model, {.window = options.window, .progress = {}});
      State state(model);
      if (round == 0) {
        const bool fresh = restart_peak_memory();
        GenerateOptions generate_options;
        generate_options.max_tokens = options.max_tokens;
        generate_options.reduction = setting.reduction;
        setting.generation = generate(session, state, text.prompt, generate_options);
        setting.scratch_bytes = session.scratch_bytes();
        if (fresh) setting.peak_memory_bytes = peak_memory_bytes();
      } else {
        const auto start = std::chrono::steady_clock::now();
        session.feed(state, text.prompt, {.reduction = setting.reduction});
        setting.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      }
      progress.update(++done, rounds * static_cast<std::int64_t>(settings.size()));
    }
  }
}

/// A text on one line, in quotes.
std::string on_one_line(std::string text) {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\n");
  return fmt::format("\"{}\"", text);
}

/// Runs of layers with their tokens: "0-3 1024, 4-15 700+324", those that only write behind the plus sign.
std::string by_layer(const Setting& setting, std::int64_t tokens, std::int64_t layers) {
  const ReductionRecord& record = setting.generation.reduction;
  const auto text_of = [&](std::size_t layer) {
    if (setting.reduction == nullptr || record.full.empty()) return std::to_string(tokens);
    const std::string full = std::to_string(record.full[layer]);
    return record.writing[layer] == 0 ? full : fmt::format("{}+{}", full, record.writing[layer]);
  };
  std::string line;
  const auto end = static_cast<std::size_t>(layers);
  for (std::size_t layer = 0; layer < end;) {
    std::size_t last = layer;
    while (last + 1 < end && text_of(last + 1) == text_of(layer)) ++last;
    const std::string range = last == layer ? std::to_string(layer) : fmt::format("{}-{}", layer, last);
    line += fmt::format("{}{}: {}", line.empty() ? "" : ", ", range, text_of(layer));
    layer = last + 1;
  }
  return line;
}

report::Comparison summarize(const Options& options, const Model& model, const Text& text,
                             const std::vector<Setting>& settings) {
  report::Comparison comparison;
  comparison.model = name_of_model(model);
  comparison.facts = run_facts(model, options.model);
  comparison.facts.push_back({"text", options.prompt ? "--prompt" : options.prompt_file});
  comparison.facts.push_back({"window", fmt::format("{} tokens", options.window)});
  comparison.facts.push_back({"timing", fmt::format("median of {}", options.repeat)});
  comparison.tokens = report::spell(model.tokenizer(), text.prompt);
  comparison.layers = model.core()->config().n_layer;
  comparison.suffix_tokens = static_cast<std::int64_t>(text.suffix.size());
  comparison.suffix = model.tokenizer().decode(text.suffix);
  for (const Setting& setting : settings) {
    report::Compared& row = comparison.settings.emplace_back();
    row.reading = {setting.name, {}, setting.scratch_bytes};
    if (setting.reduction != nullptr) row.reading.record = setting.generation.reduction;
    row.seconds = setting.median_seconds();
    row.peak_memory_bytes = setting.peak_memory_bytes;
    if (!text.suffix.empty()) row.nll = setting.nll();
    row.kl = setting.score.kl;
    row.text = setting.generation.text;
  }
  return comparison;
}

void print(const Model& model, const Text& text, const std::vector<Setting>& settings,
           const report::Comparison& comparison) {
  std::size_t width = 7;
  for (const Setting& setting : settings) width = std::max(width, setting.name.size());
  fmt::print("{}: {} tokens read, the next {} of the text scored\n\n{}", model.source(), text.prompt.size(),
             text.suffix.size(), eval::align(report::to_table(comparison)));
  fmt::print("\nTokens that run each block (+ those that only write to its state)\n");
  const std::int64_t layers = model.core()->config().n_layer;
  for (const Setting& setting : settings) {
    fmt::print("{:<{}}  {}\n", setting.name, width,
               by_layer(setting, static_cast<std::int64_t>(text.prompt.size()), layers));
  }
  fmt::print("\nHow it goes on\n");
  if (!text.suffix.empty()) {
    fmt::print("{:<{}}  {}\n", "the text", width, on_one_line(model.tokenizer().decode(text.suffix)));
  }
  for (const Setting& setting : settings) {
    fmt::print("{:<{}}  {}\n", setting.name, width, on_one_line(setting.generation.text));
  }
}

nlohmann::json to_json(const Options& options, const Model& model, const Text& text,
                       const std::vector<Setting>& settings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Setting& setting : settings) {
    nlohmann::json row = {{"setting", setting.name},         {"seconds", setting.median_seconds()},
                          {"all_seconds", setting.seconds},  {"scratch_bytes", setting.scratch_bytes},
                          {"text", setting.generation.text}, {"ids", setting.generation.ids}};
    row["peak_memory_bytes"] = setting.peak_memory_bytes ? nlohmann::json(*setting.peak_memory_bytes) : nullptr;
    if (!text.suffix.empty()) {
      row["nll"] = setting.nll();
      row["kl"] = setting.reduction == nullptr ? 0.0 : setting.score.kl.value_or(0);
      row["nll_change"] = setting.nll() - settings.front().nll();
    }
    row["reduction"] = nullptr;
    if (setting.reduction != nullptr) {
      row["reduction"] = cli::to_json(setting.generation.reduction);
      row["reduction"]["spec"] = nlohmann::json::parse(setting.reduction->text());
    }
    rows.push_back(std::move(row));
  }
  nlohmann::json result = describe_run(model, options.model);
  result.update({{"tokens", text.prompt.size()},
                 {"prompt_ids", text.prompt},
                 {"suffix", text.suffix.size()},
                 {"suffix_ids", text.suffix},
                 {"suffix_text", model.tokenizer().decode(text.suffix)},
                 {"window", options.window},
                 {"settings", std::move(rows)}});
  return result;
}

void run(const Options& options) {
  if (options.html) check_output(*options.html);
  const Model model = options.model.load();
  const std::vector<Reduction> reductions = options.reduce.make_all(model);
  std::vector<Setting> settings{{.name = eval::kDense, .reduction = nullptr}};
  for (std::size_t i = 0; i < reductions.size(); ++i) {
    if (reductions[i].scope() != Reduction::Scope::prompt) {
      fail("{}: its scope is sequence; what is scored here runs dense: leave scope out", options.reduce.specs[i]);
    }
    settings.push_back({.name = options.reduce.specs[i], .reduction = &reductions[i]});
  }
  const Text text = read_prompt(options, model);
  score(options, model, text, settings);
  measure(options, model, text, settings);
  const report::Comparison comparison = summarize(options, model, text, settings);
  if (options.html) write_file(*options.html, report::comparison_page(comparison));
  if (options.json) {
    std::cout << json_text(to_json(options, model, text, settings), 2) << "\n";
  } else {
    print(model, text, settings, comparison);
  }
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  auto* input = app.add_option_group("input", "The text (one of these)");
  input->add_option("-p,--prompt", options->prompt, "Text to read")->type_name("TEXT");
  input->add_option("--text,--prompt-file", options->prompt_file, "File with the text to read; - is standard input")
      ->type_name("FILE");
  input->require_option(1);
  app.add_flag("--bos", options->bos, "Begin the text with the model's begin-of-text token");
  options->reduce.add_to(app, true);
  app.add_option("--suffix", options->suffix,
                 "Tokens at the text's end that are not read, but scored: what the reduced states know of them")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("-n,--max-tokens", options->max_tokens, "Tokens to generate behind what was read")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_option("--repeat", options->repeat, "Repetitions of the timing; the median counts")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--window", options->window, "Tokens of the text that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print one JSON object instead of tables, with what became of each token");
  app.add_option("--html", options->html,
                 "Also write one page to look at: the figures, the texts, and what each reduction did to each token")
      ->type_name("FILE");
  app.footer(
      "One text shows, it does not prove: molt eval measures over many, with standard errors. NLL is the mean over the "
      "scored tokens, KL the divergence of next-token distributions from the dense model's, time that of reading, "
      "memory the most that the process held meanwhile, working what "
      "reading took of it besides the weights.\n"
      "Example:\n"
      "  molt compare models/demo --prompt-file page.txt --reduce bypass:flops=0.3 --reduce truncate:flops=0.3");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"compare", {"Set reductions beside the dense model on one text", &setup}};

}  // namespace
}  // namespace molt::cli
