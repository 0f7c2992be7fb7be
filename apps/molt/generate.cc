// molt generate: continues a text.
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/fail.h"
#include "command.h"
#include "model_options.h"
#include "molt/generate.h"
#include "output.h"
#include "progress.h"
#include "reduce_option.h"

namespace molt::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Options {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  std::string standard_input;
  bool bos = false;
  GenerateOptions generate;
  bool ignore_eos = false;
  ReduceOption reduce;
  std::int64_t window = 2048;
  std::optional<std::string> save_state;
  std::optional<std::string> load_state;
  bool json = false;
  CLI::Option* temperature = nullptr;
  CLI::Option* seed = nullptr;
};

struct Prompt {
  std::string where;  // for messages
  std::string text;
};

/// The prompt that was asked for, from whichever place; nothing when a loaded state is to go on by itself.
std::optional<Prompt> read_prompt(const Options& options) {
  const auto standard_input = [] { return Prompt{"standard input", read_text("-")}; };
  if (!options.standard_input.empty()) return standard_input();
  if (options.prompt) return Prompt{"--prompt", *options.prompt};
  if (options.prompt_file) return Prompt{*options.prompt_file, read_text(*options.prompt_file)};
  if (options.load_state) return std::nullopt;
  if (isatty(STDIN_FILENO) != 0) fail("no prompt: give --prompt TEXT, --prompt-file FILE, or text on standard input");
  return standard_input();
}

std::vector<TokenId> encode(const Prompt& prompt, const Tokenizer& tokenizer) {
  try {
    return tokenizer.encode(prompt.text);
  } catch (const Error& error) {
    fail("{}: {}", prompt.where, error.what());
  }
}

/// A text, its state, and the tokens of it that the state has yet to see.
struct Text {
  State state;
  std::vector<TokenId> ids;

  std::span<const TokenId> seen() const { return std::span(ids).first(static_cast<std::size_t>(state.tokens())); }
  std::span<const TokenId> unseen() const { return std::span(ids).subspan(static_cast<std::size_t>(state.tokens())); }
};

Text begin_text(const Options& options, const Model& model) {
  Text text{State(model), {}};
  if (options.load_state) {
    State::Saved saved = State::load(*options.load_state, model);
    text = {std::move(saved.state), std::move(saved.ids)};
  }
  const std::optional<Prompt> prompt = read_prompt(options);
  if (options.bos && text.ids.empty()) text.ids.push_back(model.bos());
  if (prompt) {
    const std::vector<TokenId> ids = encode(*prompt, model.tokenizer());
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
  }
  if (text.ids.empty()) text.ids.push_back(model.bos());  // an empty text begins where every document does
  if (text.unseen().empty()) {
    fail("{}: its text ended with the end-of-text token; add a prompt to go on", options.load_state.value_or(""));
  }
  return text;
}

nlohmann::json describe(const Generation& result, std::span<const TokenId> prompt, const Reduction* reduction) {
  const auto generated = static_cast<double>(result.ids.size());
  const auto rate = [](double tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0.0; };
  nlohmann::json json = {
      {"text", result.text},
      {"ids", result.ids},
      {"prompt_ids", prompt},
      {"stop_reason", name_of(result.reason)},
      {"timings",
       {{"prefill_seconds", result.prefill_seconds},
        {"prefill_tokens_per_s", rate(static_cast<double>(result.prompt_tokens), result.prefill_seconds)},
        {"decode_seconds", result.decode_seconds},
        {"decode_tokens_per_s", rate(std::max(0.0, generated - 1), result.decode_seconds)}}}};
  if (reduction != nullptr) {
    json["reduction"] = to_json(result.reduction);
    json["reduction"]["spec"] = nlohmann::json::parse(reduction->text());
  }
  return json;
}

/// The first Ctrl-C ends the text where it is; a second one ends the process at once.
void stop_in_order_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, nullptr);
}

/// Standard input has one spelling; anything else in its place is most likely the prompt.
std::string check_is_dash(const std::string& value) {
  return value == "-" ? "" : fmt::format("\"{}\": give the text to continue behind --prompt, or - to read it", value);
}

/// The parser of options would take -1 for a large number.
std::string check_is_seed(const std::string& value) {
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seed);
  if (error == std::errc() && end == value.data() + value.size()) return "";
  return fmt::format("{} is no whole number from 0 to {}", value, UINT64_MAX);
}

void run(Options& options) {
  // Asking for any kind of randomness without a temperature means temperature 1.
  SamplingOptions& sampling = options.generate.sampling;
  const bool random = sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0 || options.seed->count() > 0;
  if (options.temperature->count() == 0 && random) sampling.temperature = 1;
  check(sampling);
  if (options.save_state) check_output(*options.save_state);
  const Model model = options.model.load();
  const std::optional<Reduction> reduction = options.reduce.make(model);
  options.generate.reduction = reduction ? &*reduction : nullptr;
  Text text = begin_text(options, model);
  const std::vector<TokenId> prompt(text.unseen().begin(), text.unseen().end());

  Progress progress("reading the prompt");
  Session session(model, {.window = options.window, .progress = [&](std::int64_t done, std::int64_t total) {
                            if (total == 1) return;  // a generated token: on_text stops behind it
                            progress.update(done, total);
                            if (interrupted != 0) throw Interrupted();
                          }});
  options.generate.stop_at_eos = !options.ignore_eos;
  options.generate.on_text = [&](std::string_view piece) {
    progress.finish();
    if (!options.json) std::cout << piece << std::flush;
    return interrupted == 0 && std::cout.good();
  };
  stop_in_order_on_interrupt();
  const std::vector<TokenId> before(text.seen().begin(), text.seen().end());
  const Generation result = generate(session, text.state, prompt, options.generate, before);
  progress.finish();
  if (options.json) {
    std::cout << json_text(describe(result, prompt, options.generate.reduction)) << "\n";
  } else {
    std::cout << "\n";
  }
  std::cout.flush();
  if (options.save_state) {
    text.ids.insert(text.ids.end(), result.ids.begin(), result.ids.end());
    text.state.save(*options.save_state, text.ids);
  }
  if (interrupted != 0) throw Interrupted();
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  auto* prompt = app.add_option("-p,--prompt", options->prompt, "Text to continue")->type_name("TEXT");
  auto* file =
      app.add_option("--prompt-file", options->prompt_file, "File with the text to continue")->type_name("FILE");
  file->excludes(prompt);
  app.add_option("STDIN", options->standard_input, "- continues the text on standard input")
      ->type_name("")
      ->check(CLI::Validator(check_is_dash, "", "dash"))
      ->excludes(prompt)
      ->excludes(file);
  app.add_flag("--bos", options->bos, "Begin the text with the model's begin-of-text token");
  GenerateOptions& generate = options->generate;
  app.add_option("-n,--max-tokens", generate.max_tokens, "Most tokens to generate")
      ->type_name("N")
      ->check(count_from(0))
      ->capture_default_str();
  SamplingOptions& sampling = generate.sampling;
  options->temperature = app.add_option("-t,--temperature", sampling.temperature,
                                        "0: always the likeliest token (the default, but 1 with --seed, --top-k, "
                                        "--top-p or --min-p); above 0: draw at random, flatter the higher")
                             ->type_name("T");
  app.add_option("--top-k", sampling.top_k, "Draw among the K likeliest tokens (0: all)")
      ->type_name("K")
      ->check(count_from(0));
  app.add_option("--top-p", sampling.top_p, "Draw among the likeliest tokens that sum to probability P")
      ->type_name("P");
  app.add_option("--min-p", sampling.min_p, "Draw among tokens at least P times as likely as the likeliest")
      ->type_name("P");
  app.add_option("--repetition-penalty", sampling.repetition_penalty,
                 "Above 1: make tokens of the text so far less likely")
      ->type_name("X");
  options->seed = app.add_option("--seed", sampling.seed, "Same seed and options: same text")
                      ->type_name("N")
                      ->check(CLI::Validator(check_is_seed, "", "seed"));
  app.add_option("--stop", generate.stop, "End before this text comes up (may be given several times)")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options->ignore_eos, "Go on behind the end-of-text token");
  options->reduce.add_to(app);
  app.add_option("--window", options->window, "Tokens of the prompt that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_option("--save-state", options->save_state, "Write what the model remembers at the end to this file")
      ->type_name("FILE");
  app.add_option("--load-state", options->load_state, "Go on from a state that --save-state wrote")->type_name("FILE");
  app.add_flag("--json", options->json, "Print one JSON object: text, ids, timings, and what a reduction did");
  app.footer(
      "Examples:\n"
      "  molt generate models/demo --prompt \"The history of the city begins\" --max-tokens 64\n"
      "  molt generate models/demo --prompt-file page.txt --temperature 0.8 --top-p 0.95 --seed 7\n"
      "  cat page.txt | molt generate models/demo - \n"
      "  molt generate models/demo --prompt-file page.txt --reduce bypass:flops=0.3\n"
      "  molt generate models/demo --prompt-file book.txt --save-state book.state --max-tokens 0\n"
      "  molt generate models/demo --load-state book.state --prompt \" And then\"");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"generate", {"Continue a text", &setup}};

}  // namespace
}  // namespace molt::cli
