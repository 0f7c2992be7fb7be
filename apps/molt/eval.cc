// molt eval: what a model can do, and what a reduction costs it.
#include <algorithm>
#include <charconv>
#include <csignal>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "command.h"
#include "eval/evaluate.h"
#include "eval/passage.h"
#include "eval/report.h"
#include "model/model.h"
#include "model_options.h"
#include "output.h"
#include "progress.h"
#include "reduce_option.h"
#include "report/evaluation_page.h"
#include "run_facts.h"

namespace molt::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Options {
  ModelOptions model;
  std::vector<std::string> tasks;
  std::vector<std::string> data;
  ReduceOption reduce;
  std::optional<std::int64_t> limit;
  std::vector<std::int64_t> contexts;
  std::int64_t excerpts = 1;
  std::int64_t seed = 0;
  std::int64_t window = 2048;
  std::int64_t max_length = 2048;
  bool bos = false;
  bool kl = false;
  bool json = false;
  bool samples = false;
  std::optional<std::string> out;
  std::optional<std::string> html;
  std::optional<std::string> resume;
  std::string shard = "1/1";
};

/// "K/N", K from 1.
eval::Shard read_shard(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto number = [&](std::string_view digits) {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) value = 0;
    return value;
  };
  const std::string_view view = text;
  const std::size_t part = slash == std::string::npos ? 0 : number(view.substr(0, slash));
  const std::size_t count = slash == std::string::npos ? 0 : number(view.substr(slash + 1));
  if (part < 1 || part > count) fail("--shard is '{}'; it must be K/N with K from 1 to N, as 2/8", text);
  return {.index = part - 1, .count = count};
}

/// The first Ctrl-C ends the run where it is and prints what is done; a second one ends the process at once.
void stop_in_order_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, nullptr);
}

std::vector<eval::Setting> make_settings(const Model& model, const ReduceOption& reduce) {
  const std::vector<Reduction> reductions = reduce.make_all(model);
  std::vector<eval::Setting> settings;
  for (std::size_t i = 0; i < reductions.size(); ++i) settings.push_back({reduce.specs[i], reductions[i]});
  return settings;
}

nlohmann::json describe(const Options& options, const Model& model, const std::vector<eval::Setting>& settings) {
  nlohmann::json reductions = nlohmann::json::object();
  for (const eval::Setting& setting : settings) {
    reductions[setting.name] = nlohmann::json::parse(setting.reduction.text());
  }
  nlohmann::json result = describe_run(model, options.model);
  result.update({{"data", options.data},
                 {"limit", options.limit ? nlohmann::json(*options.limit) : nlohmann::json(nullptr)},
                 {"contexts", options.contexts},
                 {"excerpts", options.excerpts},
                 {"seed", options.seed},
                 {"window", options.window},
                 {"max_length", options.max_length},
                 {"bos", options.bos},
                 {"shard", options.shard},
                 {"reductions", std::move(reductions)}});
  return result;
}

std::vector<report::Fact> facts(const Options& options, const Model& model) {
  std::vector<report::Fact> facts = run_facts(model, options.model);
  facts.push_back({"data", fmt::format("{}", fmt::join(options.data, ", "))});
  facts.push_back({"limit", options.limit ? fmt::format("{} a task", *options.limit) : "none"});
  if (!options.contexts.empty()) facts.push_back({"contexts", fmt::format("{}", fmt::join(options.contexts, ", "))});
  if (options.excerpts > 1) facts.push_back({"excerpts", fmt::format("{} a document", options.excerpts)});
  facts.push_back({"seed", std::to_string(options.seed)});
  facts.push_back({"window", fmt::format("{} tokens", options.window)});
  facts.push_back({"longest item", fmt::format("{} tokens", options.max_length)});
  if (options.shard != "1/1") facts.push_back({"shard", options.shard});
  if (options.bos) facts.push_back({"begin-of-text", "before every context"});
  return facts;
}

/// A passage for the token map, read under every setting.
report::PassageReport read_passage(const Options& options, const Model& model,
                                   const std::vector<eval::TaskItems>& tasks,
                                   const std::vector<eval::Setting>& settings) {
  constexpr std::size_t kTokens = 1024;  // enough to see, and little enough to read
  const std::vector<TokenId> passage = eval::choose_passage(tasks, kTokens);
  if (passage.empty() || settings.empty()) return {};
  return {fmt::format("A context of {} tokens, the first of that length", passage.size()),
          report::spell(model.tokenizer(), passage), model.core()->config().n_layer,
          eval::read_passage(model, passage, settings, options.window)};
}

/// What of its data a task could not use, or not whole; empty when that is nothing.
std::string shortfall(const eval::TaskItems& task) {
  std::string text;
  if (const std::size_t count = task.problems.count(); count > 0) {
    text += fmt::format("{}: {} broken {} left out\n", task.name, count, count == 1 ? "line" : "lines");
  }
  if (task.shortened > 0) {
    text += fmt::format("{}: {} of {} items longer than --max-length; their contexts lost their beginnings\n",
                        task.name, task.shortened, task.items.size());
  }
  return text;
}

void run(const Options& options) {
  const eval::Shard shard = read_shard(options.shard);
  if (options.out) check_output(*options.out);
  if (options.html) check_output(*options.html);
  if (options.samples && !options.json && !options.out) {
    fail("--samples has nowhere to go: ask for --json, or name a file with --out");
  }
  const Model model = options.model.load();
  model.tokenizer();  // says what to do when there is none
  const std::vector<eval::Setting> settings = make_settings(model, options.reduce);
  eval::TaskInput input{.model = model,
                        .files = {},
                        .limit = options.limit.value_or(std::numeric_limits<std::int64_t>::max()),
                        .contexts = options.contexts,
                        .excerpts = options.excerpts,
                        .seed = static_cast<std::uint64_t>(options.seed),
                        .add_bos = options.bos,
                        .max_length = options.max_length};
  if (model.max_tokens() > 0) input.max_length = std::min(input.max_length, model.max_tokens());
  std::sort(input.contexts.begin(), input.contexts.end());
  input.contexts.erase(std::unique(input.contexts.begin(), input.contexts.end()), input.contexts.end());
  const std::vector<eval::TaskItems> tasks = eval::read_tasks(options.tasks, options.data, input);
  for (const eval::TaskItems& task : tasks) {
    if (task.problems.count() > 0) fmt::print(stderr, "{}{}\n", shortfall(task), task.problems.text("  "));
  }

  std::optional<eval::Journal> journal;
  if (options.resume) journal.emplace(*options.resume, model, options.window);
  Progress progress("evaluating");
  eval::EvaluateOptions evaluate_options{
      .window = options.window, .kl = options.kl, .journal = nullptr, .shard = shard, .progress = {}};
  if (journal) evaluate_options.journal = &*journal;
  evaluate_options.samples = options.samples;
  evaluate_options.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(done, total);
    return interrupted == 0;
  };
  stop_in_order_on_interrupt();
  const eval::Evaluation evaluation = eval::evaluate(model, tasks, settings, evaluate_options);
  progress.finish();

  nlohmann::json result = describe(options, model, settings);
  result["complete"] = evaluation.complete;
  result["tasks"] = eval::to_json(evaluation);
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    result["tasks"][t]["lines_left_out"] = tasks[t].problems.count();
    result["tasks"][t]["items_shortened"] = tasks[t].shortened;
    if (options.samples) {
      result["tasks"][t]["samples"] = eval::samples_to_json(tasks[t], evaluation.tasks[t], model.tokenizer());
    }
  }
  if (options.out) write_file(*options.out, json_text(result, 2) + "\n");
  if (options.html) {
    // Who stops a run wants to wait for nothing more.
    const report::PassageReport passage =
        evaluation.complete ? read_passage(options, model, tasks, settings) : report::PassageReport();
    write_file(*options.html,
               report::evaluation_page(name_of_model(model), facts(options, model), evaluation, passage));
  }
  if (options.json) {
    std::cout << json_text(result, 2) << "\n";
  } else {
    std::cout << eval::to_text(evaluation);
    for (const eval::TaskItems& task : tasks) std::cout << shortfall(task);
  }
  std::cout.flush();
  if (evaluation.complete) return;
  if (journal) {
    fmt::print(stderr, "interrupted; the same command goes on from {}\n", *options.resume);
  } else {
    fmt::print(stderr, "interrupted; with --resume FILE a run can go on where it was\n");
  }
  throw Interrupted();
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  std::string tasks = "What to evaluate, separated by commas:";
  for (const auto& [name, task] : Registry<eval::Task>::instance().entries()) {
    tasks += fmt::format("\n{}: {} ({})", name, task.summary, fmt::join(task.files, ", "));
  }
  app.add_option("--tasks", options->tasks, tasks)
      ->type_name("NAME,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required();
  app.add_option("--data", options->data,
                 "Where the data is: a folder that holds files of the names above, or a file; may be given several "
                 "times")
      ->type_name("FOLDER|FILE")
      ->allow_extra_args(false)
      ->required();
  options->reduce.add_to(app, true);
  app.add_option("--limit", options->limit, "Only the first N items of each task (documents of each context length)")
      ->type_name("N")
      ->check(count_from(1));
  app.add_option("--contexts", options->contexts,
                 "Context lengths of the tasks that read documents, in tokens, separated by commas")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(count_from(1));
  app.add_option("--excerpts", options->excerpts, "Disjoint parts of one long document that may be used as documents")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_flag("--kl", options->kl, "Also the divergence of next-token distributions from the dense model's");
  app.add_option("--seed", options->seed, "What is drawn at random (the passages of recall) follows from it")
      ->type_name("N")
      ->check(count_from(0))
      ->capture_default_str();
  app.add_flag("--bos", options->bos, "Begin every context with the begin-of-text token");
  app.add_option("--window", options->window, "Tokens of a context that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_option("--max-length", options->max_length,
                 "Tokens that an item of a benchmark may have: of longer ones the context loses its beginning, as in "
                 "lm-evaluation-harness; also the window of wikitext")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_option("--resume", options->resume,
                 "Keep results in this file as they come, and take from it what is there already: a run that was "
                 "stopped goes on where it was")
      ->type_name("FILE");
  app.add_option(
         "--shard", options->shard,
         "Only the Kth of N parts of the work, for N processes at once; all of them name one --resume FILE, from "
         "which the same command without --shard then reports the whole")
      ->type_name("K/N")
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print one JSON object instead of tables");
  app.add_option("-o,--out", options->out, "Also write that JSON object to a file")->type_name("FILE");
  app.add_flag("--samples", options->samples,
               "In that JSON object also every item: what was scored, and the log-probability of each of its tokens "
               "under every setting");
  app.add_option("--html", options->html,
                 "Also write one page to look at: tables, plots of quality, time and memory against the cut, and a "
                 "passage whose tokens show what each reduction did to them")
      ->type_name("FILE");
  app.footer(
      "Figures come with their standard errors (items from one document count as dependent); \"change\" is the mean "
      "difference from the dense model, item by item, with the much smaller error of paired differences. All --reduce, "
      "of which there may be several, run on the same items. Contexts are reduced, what is scored is not. \"cut\" is "
      "the "
      "share of the layers' FLOPs that was saved, which short contexts may keep below what was asked; \"reduced\" the "
      "share of items of which anything was removed; \"time\" what reading the contexts took.\n"
      "Benchmarks are asked and counted as in lm-evaluation-harness. Their data are files of JSON lines with the "
      "fields "
      "of the data sets as published, or prepared ones (query, choices, gold). A broken line is left out, named and "
      "counted; the others go on.\n"
      "Examples:\n"
      "  molt eval models/demo --tasks lambada_openai --data eval/ --limit 200\n"
      "  molt eval models/demo --tasks hellaswag,piqa,arc_easy,arc_challenge,winogrande --data eval/ \\\n"
      "      --reduce bypass:flops=0.2 --resume run.jsonl\n"
      "  molt eval models/demo --tasks suffix_nll,recall --data heldout.txt --reduce bypass:flops=0.3 \\\n"
      "      --reduce truncate:flops=0.3 --contexts 512,1024\n"
      "  molt eval models/demo --tasks suffix_nll --data heldout.txt --reduce utr:flops=0.2 --kl --resume run.jsonl "
      "\\\n"
      "      --html report.html");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"eval",
                                         {"Evaluate a model, and reductions against it, on benchmark tasks", &setup}};

}  // namespace
}  // namespace molt::cli
