// molt bench: how fast a model reads a prompt and generates, beside what the machine can do at best.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "base/parallel.h"
#include "base/random.h"
#include "ceilings.h"
#include "command.h"
#include "kernels/cpu/select.h"
#include "model/model.h"
#include "model/published_shapes.h"
#include "model_options.h"
#include "molt/generate.h"
#include "molt/session.h"
#include "molt/threads.h"
#include "op_times.h"
#include "peak_memory.h"
#include "progress.h"
#include "reduce_option.h"

namespace molt::cli {
namespace {

constexpr std::int64_t kDecodePrompt = 32;  // tokens read before decoding is timed

struct Options {
  ModelOptions model;
  std::string shape;
  std::vector<std::int64_t> prefill{512};
  std::vector<std::int64_t> decode{128};
  std::int64_t generate = 0;
  std::vector<std::int64_t> batches{1};
  std::vector<int> threads;
  std::vector<std::string> states{"f32"};
  ReduceOption reduce;
  std::int64_t window = 2048;
  std::int64_t repeat = 5;
  std::uint64_t seed = 1;
  bool ops = false;
  bool no_ceilings = false;
  bool json = false;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// One measured setting.
struct Result {
  std::string kind;     // "prefill", "generate" or "decode"
  std::int64_t tokens;  // of each sequence: read, or generated
  std::int64_t prompt;  // tokens before those that are generated
  std::int64_t batch;
  int threads;
  std::string reduce;  // the spec, empty for dense
  StateType state;
  std::vector<Timing> timings;  // of each repetition, the fastest first
  double cut = 0;               // of the layers' FLOPs, obtained
  double reducing_seconds = 0;  // of one repetition: choosing, merging and moving tokens; the median

  const Timing& median() const { return timings[timings.size() / 2]; }
  double tokens_per_second(const Timing& timing) const { return static_cast<double>(tokens * batch) / timing.seconds; }
  double slowest() const { return tokens_per_second(timings.back()); }
  double fastest() const { return tokens_per_second(timings.front()); }

  /// Takes the repetitions' timings in any order.
  void sort() {
    std::stable_sort(timings.begin(), timings.end(),
                     [](const Timing& a, const Timing& b) { return a.seconds < b.seconds; });
  }
};

std::vector<TokenId> random_ids(const Model& model, std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<TokenId> ids(static_cast<std::size_t>(count));
  for (TokenId& id : ids) {
    id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model.usable_tokens()));
  }
  return ids;
}

/// The likeliest token of each row of logits.
std::vector<TokenId> likeliest(const Model& model, std::span<const float> logits, std::int64_t batch) {
  std::vector<TokenId> ids(static_cast<std::size_t>(batch));
  parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
    Sampler greedy({});
    const auto vocab = static_cast<std::size_t>(model.vocab_size());
    for (auto s = static_cast<std::size_t>(begin); s < static_cast<std::size_t>(end); ++s) {
      ids[s] = greedy.next(logits.subspan(s * vocab, vocab), model.usable_tokens(), {});
    }
  });
  return ids;
}

/// What `batch` fresh sequences took to read a prompt each.
struct Prompted {
  Timing timing;
  double cut = 0;               // of the layers' FLOPs
  double reducing_seconds = 0;  // of them, or of the time
};

/// Reads `tokens` tokens a sequence and generates `more` behind them, the likeliest each time.
Prompted time_prompts(Session& session, std::int64_t tokens, std::int64_t more, std::int64_t batch, std::uint64_t seed,
                      const Reduction* reduction) {
  const Model& model = session.model();
  const std::vector<TokenId> ids = random_ids(model, tokens * batch, seed);
  std::vector<State> states(static_cast<std::size_t>(batch), State(model));
  ReductionRecord record;  // of the first sequence
  std::vector<Sequence> sequences;
  for (std::size_t s = 0; s < states.size(); ++s) {
    sequences.push_back({&states[s],
                         std::span(ids).subspan(s * static_cast<std::size_t>(tokens), static_cast<std::size_t>(tokens)),
                         {.reduction = reduction, .record = s == 0 ? &record : nullptr}});
  }
  Prompted result;
  const Stopwatch stopwatch(model.core()->backend());
  std::span<const float> logits = session.feed(sequences);
  result.reducing_seconds = session.reduction_seconds();
  std::vector<TokenId> next;
  for (std::int64_t i = 0; i < more; ++i) {
    next = likeliest(model, logits, batch);
    if (i + 1 == more) break;
    for (std::size_t s = 0; s < states.size(); ++s) sequences[s] = {&states[s], std::span(next).subspan(s, 1)};
    logits = session.feed(sequences);
  }
  result.timing = stopwatch.stop();
  result.cut = record.cut();
  return result;
}

/// Time for `batch` sequences to take `tokens` more tokens, one at a time, each step with its logits.
Timing time_decode(Session& session, std::int64_t tokens, std::int64_t batch, std::uint64_t seed, StateType type) {
  const Model& model = session.model();
  const std::vector<TokenId> ids = random_ids(model, kDecodePrompt + tokens * batch, seed);
  State prompt(model, type);
  session.feed(prompt, std::span(ids).first(kDecodePrompt));
  std::vector<State> states(static_cast<std::size_t>(batch), prompt);
  const Stopwatch stopwatch(model.core()->backend());
  for (std::int64_t step = 0; step < tokens; ++step) {
    std::vector<Sequence> sequences;
    for (std::size_t s = 0; s < states.size(); ++s) {
      const auto at = static_cast<std::size_t>(kDecodePrompt + step * batch) + s;
      sequences.push_back({&states[s], std::span(ids).subspan(at, 1)});
    }
    session.feed(sequences);
  }
  return stopwatch.stop();
}

struct Report {
  std::vector<Result> results;
  std::vector<std::pair<int, Ceilings>> ceilings;  // by threads
  std::int64_t peak_memory_bytes = 0;

  /// Those of that number of threads; null if not measured.
  const Ceilings* ceilings_of(int count) const {
    for (const auto& [threads, ceiling] : ceilings) {
      if (threads == count) return &ceiling;
    }
    return nullptr;
  }

  /// Where the time of the fastest repetition went, which others disturbed least: of the prefill, or of one step of
  /// decoding.
  OpTimes times_of(const Result& result) const {
    const std::int64_t repeats = result.kind == "decode" ? result.tokens : 1;
    return op_times(result.timings.front(), repeats, ceilings_of(result.threads));
  }
};

/// Measures a prefill, and `more` tokens generated behind it, dense and with each reduction, by turns, so that what
/// disturbs the machine disturbs all alike.
std::vector<Result> measure_prompts(const Options& options, std::span<const Reduction> reductions, Session& session,
                                    std::int64_t tokens, std::int64_t more, std::int64_t batch) {
  std::vector<Result> results{{.kind = more > 0 ? "generate" : "prefill",
                               .tokens = more > 0 ? more : tokens,
                               .prompt = more > 0 ? tokens : 0,
                               .batch = batch,
                               .threads = num_threads(),
                               .reduce = "",
                               .state = state_type(options.states.front()),
                               .timings = {}}};
  for (const std::string& spec : options.reduce.specs) {
    results.push_back(results.front());
    results.back().reduce = spec;
  }
  std::vector<std::vector<double>> reducing(results.size());
  for (std::int64_t r = -1; r < options.repeat; ++r) {  // the first one warms caches and scratch memory
    for (std::size_t i = 0; i < results.size(); ++i) {
      Prompted run = time_prompts(session, tokens, more, batch,
                                  options.seed + static_cast<std::uint64_t>(std::max<std::int64_t>(r, 0)),
                                  i == 0 ? nullptr : &reductions[i - 1]);
      if (r < 0) continue;
      results[i].timings.push_back(std::move(run.timing));
      results[i].cut = run.cut;
      reducing[i].push_back(run.reducing_seconds);
    }
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i].sort();
    results[i].reducing_seconds = median(reducing[i]);
  }
  return results;
}

/// Measures decoding with each type of states, by turns.
std::vector<Result> measure_decode(const Options& options, Session& session, std::int64_t tokens, std::int64_t batch) {
  std::vector<Result> results;
  for (const std::string& state : options.states) {
    results.push_back({"decode", tokens, kDecodePrompt, batch, num_threads(), "", state_type(state), {}});
    time_decode(session, tokens, batch, options.seed, state_type(state));  // warms caches and scratch memory
  }
  for (std::int64_t r = 0; r < options.repeat; ++r) {
    const std::uint64_t seed = options.seed + static_cast<std::uint64_t>(r);
    for (Result& result : results) {
      result.timings.push_back(time_decode(session, tokens, batch, seed, result.state));
    }
  }
  for (Result& result : results) result.sort();
  return results;
}

Report measure(const Options& options, const Model& model) {
  Report report;
  const std::vector<Reduction> reductions = options.reduce.make_all(model);
  Session session(model, {.window = options.window, .progress = {}});
  const std::vector<int> threads = options.threads.empty() ? std::vector<int>{num_threads()} : options.threads;
  const std::size_t prompts = options.prefill.size() * (options.generate > 0 ? 2 : 1);
  const auto settings = threads.size() * options.batches.size() * (prompts + options.decode.size());
  Progress progress("measuring");
  std::int64_t done = 0;
  const auto add = [&](const std::vector<Result>& results) {
    report.results.insert(report.results.end(), results.begin(), results.end());
    progress.update(++done, static_cast<std::int64_t>(settings));
  };
  for (const int count : threads) {
    set_num_threads(count);
    for (const std::int64_t batch : options.batches) {
      for (const std::int64_t tokens : options.prefill) {
        if (tokens == 0) continue;
        add(measure_prompts(options, reductions, session, tokens, 0, batch));
        if (options.generate > 0) {
          add(measure_prompts(options, reductions, session, tokens, options.generate, batch));
        }
      }
      for (const std::int64_t tokens : options.decode) {
        if (tokens > 0) add(measure_decode(options, session, tokens, batch));
      }
    }
  }
  report.peak_memory_bytes = peak_memory_bytes();  // before the ceilings, which need memory of their own
  for (const int count : options.no_ceilings ? std::vector<int>{} : threads) {
    set_num_threads(count);
    report.ceilings.emplace_back(count, measure_ceilings(*model.core()));
  }
  return report;
}

std::int64_t state_bytes(const ModelCore& core, StateType type) {
  return core.state_layout(type == StateType::bf16 ? DType::bf16 : DType::f32).bytes;
}

/// Bytes that decoding `tokens` tokens of `batch` sequences reads and writes at least: in each step weights once,
/// states both ways, the keys and values of all tokens so far once.
double decode_bytes(const ModelCore& core, std::int64_t tokens, std::int64_t batch, StateType state) {
  const double step =
      static_cast<double>(core.cost().weight_bytes) + 2.0 * static_cast<double>(batch * state_bytes(core, state));
  const double seen = static_cast<double>(kDecodePrompt) + static_cast<double>(tokens + 1) / 2;  // on average
  return static_cast<double>(tokens) *
         (step + static_cast<double>(batch * core.state_layout().kv_token_bytes()) * seen);
}

nlohmann::json to_json(const Report& report, const Model& model) {
  const ModelCore& core = *model.core();
  nlohmann::json results = nlohmann::json::array();
  for (const Result& result : report.results) {
    results.push_back({{"kind", result.kind},
                       {"tokens", result.tokens},
                       {"prompt", result.prompt},
                       {"batch", result.batch},
                       {"threads", result.threads},
                       {"reduce", result.reduce},
                       {"state", name_of(result.state)},
                       {"cut", result.cut},
                       {"reducing_seconds", result.reducing_seconds},
                       {"seconds", result.median().seconds},
                       {"tokens_per_s", result.tokens_per_second(result.median())},
                       {"tokens_per_s_min", result.slowest()},
                       {"tokens_per_s_max", result.fastest()}});
    if (!result.timings.front().ops.empty()) results.back()["op_times"] = to_json(report.times_of(result));
  }
  nlohmann::json ceilings = nlohmann::json::array();
  for (const auto& [threads, ceiling] : report.ceilings) {
    ceilings.push_back({{"threads", threads},
                        {"read_gb_per_s", ceiling.read_gb_per_s},
                        {"matmul_gflop_per_s", ceiling.matmul_gflop_per_s},
                        {"matmul_f32_gflop_per_s", ceiling.matmul_f32_gflop_per_s}});
  }
  double load[3] = {};
  getloadavg(load, 3);
  return {{"model", model.source()},
          {"dtype", core.weight_formats()},
          {"isa", select_kernels().name},
          {"weight_bytes", core.cost().weight_bytes},
          {"state_bytes", state_bytes(core, report.results.empty() ? StateType::f32 : report.results.front().state)},
          {"state_bytes_per_token", core.state_layout().kv_token_bytes()},
          {"flops_per_token", core.cost().flops_per_token},
          {"results", results},
          {"ceilings", ceilings},
          {"peak_memory_bytes", report.peak_memory_bytes},
          {"load_average", load[0]}};
}

/// How much of which ceiling a result reaches: prefill is bound by arithmetic, decoding by memory. Of both together:
/// the time.
std::string share_of_ceiling(const Result& result, const Report& report, const ModelCore& core) {
  if (result.kind == "generate") {
    return fmt::format("behind {} tokens, {:.0f} ms in all", result.prompt, 1e3 * result.median().seconds);
  }
  const Ceilings* ceilings = report.ceilings_of(result.threads);
  if (ceilings == nullptr) return "";
  const double time = result.median().seconds;
  if (result.kind == "prefill") {
    const double head = 2.0 * static_cast<double>(core.config().vocab_size * core.config().d_model);
    const double pairs = core.cost().flops_per_pair * static_cast<double>(result.tokens + 1) / 2;
    const double flops = (1 - result.cut) * static_cast<double>(result.tokens * result.batch) *
                         (core.cost().flops_per_token - head + pairs);
    return fmt::format("{:.0f}% of matmul", 100 * flops / time / 1e9 / ceilings->matmul_gflop_per_s);
  }
  const double bytes = decode_bytes(core, result.tokens, result.batch, result.state);
  return fmt::format("{:.0f}% of read", 100 * bytes / time / 1e9 / ceilings->read_gb_per_s);
}

void print_op_times(const Report& report) {
  for (const Result& result : report.results) {
    if (result.timings.front().ops.empty()) continue;
    fmt::print("\n{}, batch {}, {} thread{}{}{}:\n",
               result.kind == "prefill"  ? fmt::format("prefill of {} tokens", result.tokens)
               : result.kind == "decode" ? "a decode step"
                                         : fmt::format("{} tokens and {} more", result.prompt, result.tokens),
               result.batch, result.threads, result.threads == 1 ? "" : "s", result.reduce.empty() ? "" : ", ",
               result.reduce);
    print(report.times_of(result));
  }
}

void print_table(const Report& report, const Model& model) {
  const ModelCore& core = *model.core();
  const std::string state = core.state_layout().bytes == 0
                                ? fmt::format("{:.1f} KB of keys and values a token",
                                              static_cast<double>(core.state_layout().kv_token_bytes()) / 1e3)
                                : fmt::format("state {:.1f} MB a sequence (f32) or {:.1f} MB (bf16)",
                                              static_cast<double>(state_bytes(core, StateType::f32)) / 1e6,
                                              static_cast<double>(state_bytes(core, StateType::bf16)) / 1e6);
  fmt::print("{}: {} weights {:.0f} MB, {}, kernels {}\n", model.source(), core.weight_formats(),
             static_cast<double>(core.cost().weight_bytes) / 1e6, state, select_kernels().name);
  for (const auto& [threads, ceiling] : report.ceilings) {
    fmt::print("this machine, {} thread{}: reads {:.1f} GB/s, multiplies {:.0f} GFLOP/s ({})\n", threads,
               threads == 1 ? "" : "s", ceiling.read_gb_per_s, ceiling.matmul_gflop_per_s, core.weight_formats());
  }
  fmt::print("\n{:<8} {:>7} {:>6} {:>8} {:>6} {:>12} {:>20}  {}\n", "", "tokens", "batch", "threads", "state",
             "tokens/s", "(slowest - fastest)", "of the ceiling");
  double dense = 0;
  for (const Result& result : report.results) {
    fmt::print("{:<8} {:>7} {:>6} {:>8} {:>6} {:>12.1f} {:>20}  {}\n", result.kind, result.tokens, result.batch,
               result.threads, name_of(result.state), result.tokens_per_second(result.median()),
               fmt::format("({:.1f} - {:.1f})", result.slowest(), result.fastest()),
               share_of_ceiling(result, report, core));
    if (result.reduce.empty()) {
      dense = result.median().seconds;
    } else {
      fmt::print("  {}: {:.1f}% of FLOPs cut, {:.2f}x dense; reducing itself took {:.1f}% of the time\n", result.reduce,
                 100 * result.cut, dense / result.median().seconds,
                 100 * result.reducing_seconds / result.median().seconds);
    }
  }
  print_op_times(report);
  double load[3] = {};
  getloadavg(load, 3);
  fmt::print("\npeak memory {:.0f} MB, load average {:.2f}\n", static_cast<double>(report.peak_memory_bytes) / 1e6,
             load[0]);
}

void run(const Options& options) {
  if (options.model.model.empty() == options.shape.empty()) {
    fail("name either a model folder or a published shape with --shape (one of: {})",
         fmt::join(published_shapes(), ", "));
  }
  LoadOptions load = options.model.prepare();
  load.states = state_type(options.states.front());
  if (options.ops) load.backend = "timed:" + load.backend;
  const Model model =
      options.shape.empty() ? Model::load(options.model.model, load) : Model::random(options.shape, options.seed, load);
  const Report report = measure(options, model);
  if (options.json) {
    std::cout << json_text(to_json(report, model), 2) << "\n";
  } else {
    print_table(report, model);
  }
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  app.get_option("MODEL")->required(false);
  app.remove_option(app.get_option("--threads"));
  app.add_option("--threads", options->threads, "Numbers of threads to measure with: 1,2")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 1024));
  app.remove_option(app.get_option("--state"));
  app.add_option("--state", options->states,
                 "Types of the SSM states to decode with, by turns: f32,bf16; prompts are read with the first")
      ->type_name("f32|bf16,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--shape", options->shape,
                 "Random weights at a published shape instead of a model: mamba-130m, mamba2-2.7b, ...")
      ->type_name("NAME");
  const auto lengths = CLI::Range(std::int64_t{0}, std::int64_t{1} << 30);
  app.add_option("--prefill", options->prefill, "Prompt lengths: 512,2048 (0: none)")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(lengths)
      ->capture_default_str();
  app.add_option("--decode", options->decode, "Numbers of tokens to decode: 128 (0: none)")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(lengths)
      ->capture_default_str();
  app.add_option("--generate", options->generate,
                 "Tokens to generate behind each prompt of --prefill, greedily: the time of both together")
      ->type_name("N")
      ->check(lengths)
      ->capture_default_str();
  app.add_option("--batch", options->batches, "Numbers of sequences at once: 1,16")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  options->reduce.add_to(app, true);
  app.add_option("--window", options->window, "Tokens of a prompt that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_option("--repeat", options->repeat, "Repetitions; the median counts")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Of random weights and prompts")->type_name("N")->capture_default_str();
  app.add_flag(
      "--ops", options->ops,
      "Also where the time of each prefill and of a decode step goes, op by op, and each op's GB/s, GFLOP/s and "
      "share of the ceiling that binds it");
  app.add_flag("--no-ceilings", options->no_ceilings, "Skip measuring what the machine can do at best");
  app.add_flag("--json", options->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  molt bench models/demo\n"
      "  molt bench models/demo --ops --prefill 512,2048\n"
      "  molt bench models/demo --prefill 2048 --decode 0 --reduce utr:flops=0.3 --reduce bypass:flops=0.3\n"
      "  molt bench --shape mamba2-130m --prefill 512,2048 --decode 128 --batch 1,16 --threads 1,2");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"bench", {"Measure prefill and decode speed", &setup}};

}  // namespace
}  // namespace molt::cli
