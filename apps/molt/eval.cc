// molt eval: what a model can do, and what a reduction costs it.
#include <algorithm>
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
#include "eval/report.h"
#include "model/model.h"
#include "model_options.h"
#include "output.h"
#include "progress.h"
#include "reduce_option.h"

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
  std::optional<std::string> out;
  std::optional<std::string> resume;
};

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
  return {{"molt", MOLT_VERSION},
          {"model", model.source()},
          {"fingerprint", model.core()->fingerprint()},
          {"weights", name_of(model.core()->dtype())},
          {"data", options.data},
          {"limit", options.limit ? nlohmann::json(*options.limit) : nlohmann::json(nullptr)},
          {"contexts", options.contexts},
          {"excerpts", options.excerpts},
          {"seed", options.seed},
          {"window", options.window},
          {"max_length", options.max_length},
          {"bos", options.bos},
          {"reductions", std::move(reductions)}};
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
  if (options.out) check_output(*options.out);
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
      .window = options.window, .kl = options.kl, .journal = nullptr, .progress = {}};
  if (journal) evaluate_options.journal = &*journal;
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
  }
  if (options.out) write_file(*options.out, json_text(result, 2) + "\n");
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
  app.add_flag("--json", options->json, "Print one JSON object instead of tables");
  app.add_option("-o,--out", options->out, "Also write that JSON object to a file")->type_name("FILE");
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
      "  molt eval models/demo --tasks suffix_nll --data heldout.txt --reduce utr:flops=0.2 --kl --resume run.jsonl");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"eval",
                                         {"Evaluate a model, and reductions against it, on benchmark tasks", &setup}};

}  // namespace
}  // namespace molt::cli
