// Generation: from logits to tokens to text.
//
//   molt::Generation result = molt::generate(session, state, ids, {.max_tokens = 64});
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "molt/session.h"

namespace molt {

/// How the next token is drawn. The defaults are greedy: the token of the greatest logit, the lowest id among equals.
struct SamplingOptions {
  double temperature = 0;         // 0: greedy; otherwise logits are divided by it
  std::int64_t top_k = 0;         // keep the k most likely; 0: all
  double top_p = 1;               // keep the fewest most likely tokens whose probabilities sum to at least this
  double min_p = 0;               // keep tokens at least this likely, relative to the most likely one
  double repetition_penalty = 1;  // logits of tokens seen: divided by this where positive, multiplied where negative
  std::uint64_t seed = 0;         // the same seed and options draw the same tokens on every machine
};

/// Throws Error naming the option and the value when one is out of range.
void check(const SamplingOptions& options);

/// Draws tokens one after another. One text a sampler; not thread-safe.
class Sampler {
 public:
  /// Throws Error for options out of range.
  explicit Sampler(const SamplingOptions& options);

  /// Draws from the first `usable` of `logits`. `seen`: the tokens of the text so far, for the repetition penalty.
  /// Order: penalty, temperature, top-k, top-p, min-p. Throws Error when the logits hold no finite number.
  TokenId next(std::span<const float> logits, std::int64_t usable, std::span<const TokenId> seen);

 private:
  struct Candidate {
    TokenId id;
    double weight;  // the logit, then the probability but for a common factor
  };

  std::span<const float> penalise(std::span<const float> logits, std::span<const TokenId> seen);
  void keep_likely();
  TokenId draw();

  SamplingOptions options_;
  std::uint64_t random_state_;
  std::vector<float> penalised_;
  std::vector<Candidate> candidates_;  // from the most likely down
};

struct GenerateOptions {
  std::int64_t max_tokens = 128;
  const Reduction* reduction = nullptr;  // of the prompt; null: none. What is generated, is not reduced
  SamplingOptions sampling;
  std::vector<std::string> stop;  // valid UTF-8; the text ends before the one that is complete first
  bool stop_at_eos = true;

  /// Called with each piece of text as soon as it is certain: whole characters only, nothing that a stop string may
  /// still take back. Return false to stop.
  std::function<bool(std::string_view piece)> on_text;
};

enum class StopReason { max_tokens, eos, stop_string, cancelled, context_full };

/// "max_tokens", "eos", "stop", "cancelled", "context_full" (Model::max_tokens() are reached).
std::string_view name_of(StopReason reason);

struct Generation {
  std::vector<TokenId> ids;  // generated, the end-of-text token not included
  std::string text;          // of these ids, cut before a stop string
  StopReason reason = StopReason::max_tokens;
  std::int64_t prompt_tokens = 0;
  ReductionRecord reduction;   // what became of the prompt's tokens, if it was reduced
  double prefill_seconds = 0;  // to the logits behind the prompt
  double decode_seconds = 0;   // for all tokens after the first
};

/// Feeds `prompt` (at least one token), then generates. `before`: earlier tokens of the same text, which the state has
/// seen: they count for the repetition penalty. Afterwards `state` has seen all of the text but its last token (all of
/// it where the end-of-text token ended it), even if none was to be generated.
/// Needs the model's tokenizer. Throws Error for options out of range and for ids outside of the vocabulary.
Generation generate(Session& session, State& state, std::span<const TokenId> prompt, const GenerateOptions& options,
                    std::span<const TokenId> before = {});

}  // namespace molt
