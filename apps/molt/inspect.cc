// molt inspect: what a model is made of and what it costs to run.
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "command.h"
#include "memory_needs.h"
#include "model/model.h"
#include "model/published_shapes.h"
#include "model_options.h"
#include "reduce_option.h"

namespace molt::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string shape;
  ReduceOption reduce;
  std::int64_t length = 2048;
  std::int64_t batch = 0;
  std::int64_t window = 2048;
  bool methods = false;
  bool json = false;
};

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  for (; bytes >= 1000 && unit + 1 < std::size(units); ++unit) bytes /= 1000;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, units[unit]);
}

nlohmann::json describe(const Model& model) {
  const ModelCore& core = *model.core();
  const ModelConfig& config = core.config();
  std::map<std::string, std::int64_t> blocks;
  for (std::int64_t i = 0; i < config.n_layer; ++i) ++blocks[std::string(core.block(i).kind())];
  const Block& first = core.block(0);
  nlohmann::json state = nlohmann::json::array();
  for (const StatePart& part : first.state_parts()) {
    state.push_back({{"name", part.name},
                     {"shape", part.shape},
                     {"bytes", element_count(part.shape) * size_of(part.dtype(core.state_dtype()))}});
  }
  const StateLayout& layout = core.state_layout(core.state_dtype());
  nlohmann::json stored = nlohmann::json::object();
  for (const auto& [type, amount] : core.stored_types()) {
    stored[type] = {{"tensors", amount.tensors}, {"bytes", amount.bytes}};
  }
  const BlockCost cost = core.cost();
  const nlohmann::json dtypes = {{"matrices", core.weight_formats()},
                                 {"vectors", "f32"},
                                 {"activations", "f32"},
                                 {"state", name_of(core.state_dtype())}};
  nlohmann::json result = {{"model", model.source()},
                           {"architecture", config.architecture},
                           {"blocks", blocks},
                           {"layers", config.n_layer},
                           {"d_model", config.d_model},
                           {"vocab_size", config.vocab_size},
                           {"vocab_tokens", config.n_tokens},
                           {"tied_embeddings", config.tie_embeddings},
                           {"norm_eps", config.norm_eps},
                           {"parameters", cost.parameters},
                           {"stored", stored},
                           {"dtypes", dtypes},
                           {"flops_per_token", cost.flops_per_token},
                           {"weight_bytes", cost.weight_bytes},
                           {"flops_per_token_and_token_seen", cost.flops_per_pair},
                           {"state_bytes", layout.bytes},
                           {"state_bytes_per_token", layout.kv_token_bytes()},
                           {"max_tokens", config.max_tokens},
                           {"state_per_layer", state},
                           {"fingerprint", core.fingerprint()},
                           {"tokenizer", nullptr}};
  if (model.has_tokenizer()) {
    result["tokenizer"] = {{"type", "byte-level BPE"},
                           {"vocab_size", model.tokenizer().vocab_size()},
                           {"special_tokens", model.tokenizer().special_ids().size()}};
  }
  return result;
}

void print_table(const nlohmann::json& d) {
  const auto row = [](std::string_view key, const std::string& value) { fmt::print("{:<16}{}\n", key, value); };
  std::string blocks;
  for (const auto& [kind, count] : d["blocks"].items()) {
    blocks += fmt::format("{}{} x {}", blocks.empty() ? "" : ", ", count.get<int>(), kind);
  }
  row("model", d["model"]);
  row("architecture",
      fmt::format("{} ({}), width {}", d["architecture"].get<std::string>(), blocks, d["d_model"].get<std::int64_t>()));
  row("parameters", fmt::format("{:.1f} M", d["parameters"].get<double>() / 1e6));
  row("vocabulary", fmt::format("{} rows for {} tokens, {}", d["vocab_size"].get<std::int64_t>(),
                                d["vocab_tokens"].get<std::int64_t>(),
                                d["tied_embeddings"].get<bool>() ? "embedding and head tied" : "head of its own"));
  for (const auto& [type, amount] : d["stored"].items()) {
    row(type == d["stored"].begin().key() ? "stored" : "",
        fmt::format("{:<8}{:>6} tensors  {:>10}", type, amount["tensors"].get<std::int64_t>(),
                    human_bytes(amount["bytes"].get<double>())));
  }
  row("weights", fmt::format("{}: matrices in {}, vectors in f32", human_bytes(d["weight_bytes"].get<double>()),
                             d["dtypes"]["matrices"].get<std::string>()));
  const auto per_token = d["state_bytes_per_token"].get<double>();
  if (const auto fixed = d["state_bytes"].get<double>(); fixed > 0) {
    row("state", fmt::format("{} in {} a sequence, whatever its length", human_bytes(fixed),
                             d["dtypes"]["state"].get<std::string>()));
  }
  if (per_token > 0) {
    row("keys, values",
        fmt::format("{} in f32 a token, {} for the longest text, {} tokens", human_bytes(per_token),
                    human_bytes(per_token * d["max_tokens"].get<double>()), d["max_tokens"].get<std::int64_t>()));
  }
  for (const auto& part : d["state_per_layer"]) {
    row("", fmt::format("{} {} a layer", part["name"].get<std::string>(), to_string(part["shape"].get<Shape>())));
  }
  const auto per_seen = d["flops_per_token_and_token_seen"].get<double>();
  row("cost", fmt::format("{:.1f} MFLOP a token", d["flops_per_token"].get<double>() / 1e6) +
                  (per_seen > 0 ? fmt::format(", and {:.3f} MFLOP for each that it sees", per_seen / 1e6) : ""));
  row("tokenizer", d["tokenizer"].is_null()
                       ? "none (--tokenizer FILE)"
                       : fmt::format("{}, {} tokens, {} special", d["tokenizer"]["type"].get<std::string>(),
                                     d["tokenizer"]["vocab_size"].get<std::int64_t>(),
                                     d["tokenizer"]["special_tokens"].get<std::int64_t>()));
  row("fingerprint", d["fingerprint"]);
}

/// What a reduction does to a prompt of a length: a line a layer.
void print_reduction(const Reduction& reduction, const ReductionRecord& record) {
  const auto tokens = static_cast<double>(record.tokens);
  fmt::print("\n{}: of {} tokens, {:.1f}% of the layers' FLOPs cut\n", reduction.text(), record.tokens,
             100 * record.cut());
  const bool writes = std::any_of(record.writing.begin(), record.writing.end(), [](auto n) { return n > 0; });
  fmt::print("layer   tokens{}\n", writes ? "  writing only" : "");
  for (std::size_t layer = 0; layer < record.full.size(); ++layer) {
    const std::string bar(static_cast<std::size_t>(40 * static_cast<double>(record.full[layer]) / tokens), '#');
    const std::string written(static_cast<std::size_t>(40 * static_cast<double>(record.writing[layer]) / tokens), '-');
    const std::string writing = writes ? fmt::format("  {:>12}", record.writing[layer]) : "";
    fmt::print("{:>5}  {:>7}{}  {}{}\n", layer, record.full[layer], writing, bar, written);
  }
}

Model load(const Options& options) {
  LoadOptions load = options.model.prepare();
  if (options.batch > 0) load.backend = "rehearse:" + load.backend;
  return options.shape.empty() ? Model::load(options.model.model, load) : Model::random(options.shape, 1, load);
}

nlohmann::json describe_memory(const Options& options, const Model& model) {
  const MemoryNeeds needs = memory_needs(model, options.batch, options.length, options.window);
  return {{"backend", options.model.backend}, {"batch", options.batch},      {"length", options.length},
          {"window", options.window},         {"weights", needs.weights},    {"states", needs.states},
          {"scratch", needs.scratch},         {"of_backend", needs.backend}, {"total", needs.total()}};
}

void print_memory(const nlohmann::json& memory) {
  fmt::print("\nmemory on {}, {} x {} tokens, {} at a time\n", memory["backend"].get<std::string>(),
             memory["batch"].get<std::int64_t>(), memory["length"].get<std::int64_t>(),
             memory["window"].get<std::int64_t>());
  const auto row = [&](const char* name, const char* key) {
    fmt::print("{:<16}{:>10}\n", name, human_bytes(memory[key].get<double>()));
  };
  row("weights", "weights");
  row("states", "states");
  row("activations", "scratch");
  row("backend's own", "of_backend");
  row("together", "total");
}

void run(const Options& options) {
  if (options.methods) {
    options.reduce.load_plugins();
    std::cout << describe_reductions();
    return;
  }
  if (options.model.model.empty() == options.shape.empty()) {
    fail("name either a model folder or a published shape with --shape (one of: {})",
         fmt::join(published_shapes(), ", "));
  }
  const Model model = load(options);
  const std::vector<Reduction> reductions = options.reduce.make_all(model);
  std::vector<ReductionRecord> records;
  for (const Reduction& reduction : reductions) records.push_back(reduction.rehearse(options.length));
  nlohmann::json description = describe(model);
  if (options.batch > 0) description["memory"] = describe_memory(options, model);
  if (!options.json) {
    print_table(description);
    if (options.batch > 0) print_memory(description["memory"]);
    for (std::size_t i = 0; i < records.size(); ++i) print_reduction(reductions[i], records[i]);
    return;
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    description["reductions"].push_back(summary_json(records[i]));
    description["reductions"].back()["spec"] = nlohmann::json::parse(reductions[i].text());
  }
  std::cout << json_text(description, 2) << "\n";
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  app.get_option("MODEL")->required(false);
  app.add_option("--shape", options->shape, "A published shape instead of a model: mamba-130m, mamba2-2.7b, ...")
      ->type_name("NAME");
  options->reduce.add_to(app, true);
  app.add_option("--length", options->length, "Tokens of the prompt that --reduce and --batch are shown for")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--batch", options->batch, "Also how much memory so many sequences of --length tokens take")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  app.add_option("--window", options->window, "Tokens that are read together, for --batch")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  app.add_flag("--methods", options->methods, "List the methods of --reduce with their keys, and end");
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  molt inspect models/demo\n"
      "  molt inspect models/demo --reduce utr:flops=0.3 --reduce bypass:flops=0.3 --length 1024\n"
      "  molt inspect --shape mamba2-2.7b --backend cuda --batch 96 --window 4096\n"
      "  molt inspect --methods");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"inspect", {"Show what a model is made of and what it costs", &setup}};

}  // namespace
}  // namespace molt::cli
