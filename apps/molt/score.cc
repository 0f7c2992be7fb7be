// molt score: how likely a continuation is behind a context, token by token.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/fail.h"
#include "command.h"
#include "eval/data.h"
#include "eval/scoring.h"
#include "eval/task.h"
#include "model_options.h"
#include "progress.h"
#include "reduce_option.h"
#include "token_rows.h"

namespace molt::cli {
namespace {

struct Options {
  ModelOptions model;
  std::optional<std::string> context;
  std::optional<std::string> continuation;
  std::optional<std::string> ids_file;
  ReduceOption reduce;
  std::int64_t window = 2048;
  bool bos = false;
  bool json = false;
};

/// The rows of context_ids and continuation_ids in a safetensors file.
std::vector<eval::Request> read_ids(const std::string& path) {
  const SafetensorsFile file = read_safetensors(path);
  const auto contexts = token_rows(file, "context_ids", path);
  const auto continuations = token_rows(file, "continuation_ids", path);
  if (contexts.size() != continuations.size()) {
    fail("{}: context_ids has {} sequences, continuation_ids {}; each context needs one continuation", path,
         contexts.size(), continuations.size());
  }
  std::vector<eval::Request> requests;
  for (std::size_t i = 0; i < contexts.size(); ++i) requests.push_back({contexts[i], continuations[i]});
  if (requests.empty()) fail("{}: context_ids and continuation_ids hold no token", path);
  return requests;
}

std::vector<eval::Request> read_requests(const Options& options, const Model& model) {
  if (options.ids_file) return read_ids(*options.ids_file);
  eval::Request request =
      eval::encode_request(model.tokenizer(), *options.context, *options.continuation, model.bos(), options.bos);
  if (request.continuation.empty()) {
    fail("--continuation \"{}\" adds no token to the context: there is nothing to score", *options.continuation);
  }
  return {std::move(request)};
}

/// Throws Error for ids that the model does not know.
void check_ids(const std::vector<eval::Request>& requests, const Model& model) {
  for (const eval::Request& request : requests) {
    for (const auto* ids : {&request.context, &request.continuation}) {
      for (const TokenId id : *ids) {
        if (id < 0 || id >= model.vocab_size()) {
          fail("token id {} is not in the model's vocabulary of {}", id, model.vocab_size());
        }
      }
    }
  }
}

std::vector<eval::Outcome> score(const std::vector<eval::Request>& requests, const Model& model, const Options& options,
                                 const Reduction* reduction) {
  std::vector<eval::Prompt> prompts;
  std::int64_t total = 0;
  for (const eval::Request& request : requests) {
    prompts.push_back({request.context, {request.continuation}});
    total += static_cast<std::int64_t>(request.context.size() + request.continuation.size()) - 1;
  }
  std::vector<const eval::Prompt*> pointers;
  for (const eval::Prompt& prompt : prompts) pointers.push_back(&prompt);
  Progress progress("scoring");
  std::int64_t done = 0;
  eval::Scorer scorer(model, options.window, [&](std::int64_t tokens) { progress.update(done += tokens, total); });
  std::vector<eval::Outcome> outcomes;
  for (std::size_t at = 0; at < pointers.size();) {
    const std::span rest = std::span<const eval::Prompt* const>(pointers).subspan(at);
    const std::size_t count = scorer.batch_size(rest, false);
    for (eval::Outcome& outcome : scorer.score(rest.first(count), reduction)) outcomes.push_back(std::move(outcome));
    at += count;
  }
  progress.finish();
  return outcomes;
}

/// Text of single tokens, where there is a tokenizer to tell: nothing in a model without.
std::vector<std::string> token_texts(const std::vector<TokenId>& ids, const Model& model) {
  std::vector<std::string> texts;
  for (const TokenId id : ids) {
    texts.push_back(model.has_tokenizer() ? model.tokenizer().decode(std::vector<TokenId>{id}) : "");
  }
  return texts;
}

double sum_of(const eval::Score& score) {
  return 0.0 - eval::nll_sum(score);
}

nlohmann::json to_json(const eval::Request& request, const eval::Outcome& outcome, const Model& model) {
  const eval::Score& score = outcome.scores.front();
  nlohmann::json result = {{"context_ids", request.context}, {"continuation_ids", request.continuation},
                           {"logprobs", score.logprobs},     {"sum", sum_of(score)},
                           {"greedy", score.greedy},         {"cut", outcome.cut()}};
  if (model.has_tokenizer()) result["continuation_texts"] = token_texts(request.continuation, model);
  return result;
}

void print(const eval::Request& request, const eval::Outcome& outcome, const Model& model, bool reduced) {
  const eval::Score& score = outcome.scores.front();
  const std::vector<std::string> texts = token_texts(request.continuation, model);
  std::cout << fmt::format("{:>10}  {:>8}  {}\n", "log p", "id", "token");
  for (std::size_t i = 0; i < score.logprobs.size(); ++i) {
    // As JSON, so that spaces and line ends can be seen.
    const std::string text = model.has_tokenizer() ? json_text(nlohmann::json(texts[i])) : "";
    std::cout << fmt::format("{:>10.4f}  {:>8}  {}\n", score.logprobs[i], request.continuation[i], text);
  }
  const double sum = sum_of(score);
  std::cout << fmt::format("{:>10.4f}  sum of {} tokens behind {}; {:.4f} a token{}{}\n", sum, score.logprobs.size(),
                           request.context.size(), sum / static_cast<double>(score.logprobs.size()),
                           score.greedy ? "; each the likeliest" : "",
                           reduced ? fmt::format("; {:.1f}% of the context's FLOPs cut", 100 * outcome.cut()) : "");
}

void run(const Options& options) {
  if (options.context.has_value() != options.continuation.has_value()) {
    fail("--context and --continuation belong together (--context \"\" stands for the begin of a text)");
  }
  if (options.context.has_value() == options.ids_file.has_value()) {
    fail("what to score? either --context and --continuation, or --ids-file");
  }
  if (options.bos && options.ids_file) fail("--bos goes with --context; put the id into context_ids");
  const Model model = options.model.load();
  const std::optional<Reduction> reduction = options.reduce.make(model);
  if (reduction) eval::check_scope("--reduce " + options.reduce.specs.front(), *reduction);
  const std::vector<eval::Request> requests = read_requests(options, model);
  check_ids(requests, model);
  const std::vector<eval::Outcome> outcomes = score(requests, model, options, reduction ? &*reduction : nullptr);
  if (!options.json) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (i > 0) std::cout << "\n";
      print(requests[i], outcomes[i], model, reduction.has_value());
    }
    return;
  }
  nlohmann::json sequences = nlohmann::json::array();
  for (std::size_t i = 0; i < requests.size(); ++i) sequences.push_back(to_json(requests[i], outcomes[i], model));
  nlohmann::json result = {{"model", model.source()}, {"window", options.window}, {"sequences", std::move(sequences)}};
  result["reduction"] = reduction ? nlohmann::json::parse(reduction->text()) : nlohmann::json(nullptr);
  std::cout << json_text(result, 2) << "\n";
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->model.add_to(app);
  app.add_option("--context", options->context, "What comes before; empty: the begin of a text")->type_name("TEXT");
  app.add_option("--continuation", options->continuation, "What is scored, from its first character on")
      ->type_name("TEXT");
  app.add_option("--ids-file", options->ids_file,
                 "A safetensors file with token ids in context_ids and continuation_ids, each [length] or "
                 "[sequences, length]")
      ->type_name("FILE");
  options->reduce.add_to(app);
  app.add_flag("--bos", options->bos, "Begin the context with the begin-of-text token");
  app.add_option("--window", options->window, "Tokens of the context that are read together")
      ->type_name("N")
      ->check(count_from(1))
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print one JSON object instead of a table");
  app.footer(
      "Prints log p of each token of the continuation, in nats, given all before it. Both texts are encoded together, "
      "as molt eval does: a space between two words belongs to the continuation, and goes there from the context's end "
      "if it must. --reduce shortens the context; the continuation is never reduced.\n"
      "Examples:\n"
      "  molt score models/demo --context \"The king sat on his\" --continuation \" throne\"\n"
      "  molt score models/demo --context \"The king sat on his\" --continuation \" horse\" --reduce "
      "truncate:flops=0.3\n"
      "  molt score models/demo --ids-file ids.safetensors --dtype f32 --json");
  app.callback([options] { run(*options); });
}

const Registration<Command> registration{"score", {"Score a continuation behind a context, token by token", &setup}};

}  // namespace
}  // namespace molt::cli
