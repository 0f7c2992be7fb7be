// molt prune: removes weights of a model.
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "command.h"
#include "compress/prune_model.h"
#include "model_options.h"
#include "molt/threads.h"
#include "progress.h"

namespace molt::cli {
namespace {

struct Options {
  std::string model;
  std::string out;
  double sparsity = 0.5;
  std::string pattern;
  std::string calibration;
  PruneOptions prune;
  bool no_polish = false;
  int threads = 0;
  bool json = false;
};

/// All matrices of one kind ("in_proj").
struct Kind {
  std::int64_t matrices = 0;
  std::int64_t weights = 0;
  std::int64_t zeros = 0;
  double squared_error = 0;
  double squared_outputs = 0;
};

std::string kind_of(const std::string& name) {
  const std::size_t end = name.rfind('.');
  const std::size_t begin = end == std::string::npos ? end : name.rfind('.', end - 1);
  return begin == std::string::npos ? name : name.substr(begin + 1, end - begin - 1);
}

std::map<std::string, Kind> kinds_of(const PruneReport& report) {
  std::map<std::string, Kind> kinds;
  for (const PrunedMatrix& matrix : report.matrices) {
    Kind& kind = kinds[kind_of(matrix.name)];
    ++kind.matrices;
    kind.weights += matrix.weights();
    kind.zeros += matrix.zeros;
    kind.squared_error += matrix.squared_error.value_or(0);
    kind.squared_outputs += matrix.squared_outputs.value_or(0);
  }
  return kinds;
}

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

void print(const PruneReport& report) {
  fmt::print("{:<12} {:>8} {:>12} {:>10} {:>24}\n", "", "matrices", "weights", "removed", "squared output error");
  for (const auto& [name, kind] : kinds_of(report)) {
    const std::string error =
        kind.squared_outputs > 0 ? fmt::format("{:.3f}%", 100 * share(kind.squared_error, kind.squared_outputs)) : "";
    fmt::print("{:<12} {:>8} {:>12} {:>9.2f}% {:>24}\n", name, kind.matrices, kind.weights,
               100 * share(static_cast<double>(kind.zeros), static_cast<double>(kind.weights)), error);
  }
}

nlohmann::json to_json(const PruneReport& report) {
  nlohmann::json kinds = nlohmann::json::array();
  for (const auto& [name, kind] : kinds_of(report)) {
    kinds.push_back({{"kind", name}, {"matrices", kind.matrices}, {"weights", kind.weights}, {"zeros", kind.zeros}});
    if (kind.squared_outputs > 0) kinds.back()["relative_error"] = share(kind.squared_error, kind.squared_outputs);
  }
  return {{"kinds", kinds}, {"resumed_layers", report.resumed_layers}};
}

void run(const Options& options) {
  if (options.threads > 0) set_num_threads(options.threads);
  PruneOptions prune = options.prune;
  prune.settings.sparsity =
      options.pattern.empty() ? Sparsity{.share = options.sparsity} : parse_pattern(options.pattern);
  prune.settings.polish = !options.no_polish;
  if (!options.calibration.empty()) {
    prune.text = read_text(options.calibration);
  } else if (find_pruner(prune.method).calibrated) {
    fail("--method {} needs text to watch the model by: --calibration FILE, some MB like what the model will read",
         prune.method);
  }
  Progress progress("pruning");
  prune.progress = [&](std::int64_t done, std::int64_t total) { progress.update(done, total); };
  const PruneReport report = prune_model(options.model, options.out, prune);
  progress.finish();
  if (options.json) {
    std::cout << json_text(to_json(report), 2) << "\n";
  } else {
    print(report);
  }
  if (report.resumed_layers > 0) {
    fmt::print(stderr, "{} layers were there from a run that had been stopped\n", report.resumed_layers);
  }
  fmt::print(stderr, "{} written; use it as any model: molt generate {}\n", options.out, options.out);
}

std::string methods() {
  std::string text;
  for (const auto& [name, entry] : Registry<PrunerEntry>::instance().entries()) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", name, entry.summary);
  }
  return text;
}

void setup_amount(CLI::App& app, Options& options) {
  auto* const sparsity = app.add_option("--sparsity", options.sparsity, "The share of the weights that goes")
                             ->type_name("0..1")
                             ->check(CLI::Range(0.0, 0.99))
                             ->capture_default_str();
  app.add_option("--pattern", options.pattern,
                 "Keep N of every M consecutive weights of a row instead: 2:4, 4:8. 2:4 is what kernels make use of")
      ->type_name("PATTERN")
      ->excludes(sparsity);
  PruneOptions& prune = options.prune;
  app.add_option("--method", prune.method, methods())->type_name("NAME")->capture_default_str();
  app.add_option("--damping", prune.settings.damping,
                 "Times the mean of the inputs' squares, added to them: more keeps weights nearer to what they were")
      ->type_name("X")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option(
         "--block", prune.settings.block,
         "Of mrp methods: columns whose weights are chosen and go at once; 0: all of a row's, an exact and slow "
         "way that leaves nothing to polish")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_flag(
      "--no-polish", options.no_polish,
      "Of mrp-sm and mrp-mm: leave rows as blocks of columns leave them; else what is left of a row is moved to "
      "where its error is least");
  app.add_option("--refine", prune.settings.refine,
                 "After the choice, exchange up to N removed weights of a row (and block) for kept ones where that "
                 "lessens its error; slow")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--only", prune.only, "Prune only linear layers whose names contain this: out_proj, layers.3.")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_option("--skip", prune.skip, "Leave those alone whose names contain this")
      ->type_name("NAME")
      ->allow_extra_args(false);
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  PruneOptions& prune = options->prune;
  prune.calibration = {.samples = 128, .length = 2048, .seed = 1};
  app.add_option("MODEL", options->model,
                 "Model folder: config.json with model.safetensors (Hugging Face) or pytorch_model.bin (mamba_ssm)")
      ->type_name("FOLDER")
      ->required();
  app.add_option("-o,--out", options->out, "The folder to write; it must not exist")->type_name("FOLDER")->required();
  setup_amount(app, *options);
  app.add_option("--calibration", options->calibration,
                 "Text to watch the model by, documents separated by <|endoftext|>; not what it is judged by later. "
                 "magnitude needs none; with it, errors are shown")
      ->type_name("FILE");
  app.add_option("--samples", prune.calibration.samples, "Windows of that text")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--length", prune.calibration.length, "Tokens a window")
      ->type_name("N")
      ->check(CLI::Range(2, 65536))
      ->capture_default_str();
  app.add_option("--seed", prune.calibration.seed, "Of the choice of windows")->type_name("N")->capture_default_str();
  app.add_option("--tokenizer", prune.tokenizer, "A tokenizer.json to use instead of the model's own")
      ->type_name("FILE");
  app.add_option("--threads", options->threads, "Threads to use (default: the cores available to this process)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", options->json, "Print one JSON object: weights removed and errors by kind of matrix");
  app.footer(
      "Writes a model folder of the same layout, with the linear layers' weights in part 0 and the others changed to "
      "make that good; convolutions, A, D, norms, embedding and head stay as they are. pruning.json in it says how it "
      "was made and what each matrix lost. A run that is killed leaves OUT.part; the same command goes on there.\n"
      "Examples:\n"
      "  molt prune models/demo --sparsity 0.5 --calibration text.txt --out demo-half\n"
      "  molt prune models/demo --pattern 2:4 --method mrp-mm --calibration text.txt --out demo-24\n"
      "  molt prune models/demo --method magnitude --skip layers.0. --out demo-magnitude\n"
      "  molt eval demo-half --tasks perplexity --data heldout.txt");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"prune", {"Remove weights of a model", &setup}};

}  // namespace
}  // namespace molt::cli
