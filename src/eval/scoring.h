// Scorer: log p(continuation | context), contexts perhaps reduced.
//
// A context is read once, with its reduction, and each of its continuations is scored from a copy of the state behind
// it, unreduced: nothing that is scored can have leaked into what a reduction kept. Ragged batches; a prompt's scores
// do not depend on the others (beyond the rounding of matrix products of another size).
//
// One thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "molt/session.h"

namespace molt {
class Backend;
}

namespace molt::eval {

/// A context and what may follow it. Neither it nor a continuation is empty.
struct Prompt {
  std::vector<TokenId> context;
  std::vector<std::vector<TokenId>> continuations;
};

/// One continuation, scored.
struct Score {
  std::vector<float> logprobs;  // of each of its tokens, given all before it
  bool greedy = false;          // whether each of them was the likeliest
  std::optional<double> kl;     // KL(dense || this) of next-token distributions, mean over its tokens, in nats
};

/// A prompt, scored.
struct Outcome {
  std::vector<Score> scores;  // of each continuation
  double flops = 0;           // of all layers for the context ...
  double dense_flops = 0;     // ... and what the dense model needs for it
  double seconds = 0;         // its share, by tokens, of the time in which the batch's contexts were read

  double cut() const { return dense_flops > 0 ? 1 - flops / dense_flops : 0; }
};

/// Next-token log-probabilities of a batch: for each token of each continuation of each prompt, [vocab_size].
using Distributions = std::vector<std::vector<float>>;

/// Throws Error, beginning with `name`, for a reduction whose scope is not the prompt: what is scored runs dense.
void check_scope(const std::string& name, const Reduction& reduction);

class Scorer {
 public:
  /// `progress`: called now and then with the tokens read since it was last called; may throw to cancel.
  Scorer(const Model& model, std::int64_t window, std::function<void(std::int64_t tokens)> progress = {});

  /// Scores a batch. `reduction`: of the contexts, null for the dense model. `keep`: where to put the distributions;
  /// `compare`: those of the dense model for the same batch, to which Score::kl is the divergence. Both may be null.
  /// Throws Error when the model yields what is no number.
  std::vector<Outcome> score(std::span<const Prompt* const> batch, const Reduction* reduction,
                             Distributions* keep = nullptr, const Distributions* compare = nullptr);

  /// How many of `prompts` may be scored together: as many as fill a few windows, while their states and, with
  /// `distributions`, these stay within some hundred megabytes; at least one.
  std::size_t batch_size(std::span<const Prompt* const> prompts, bool distributions) const;

 private:
  class Batch;

  /// A state that starts as `from`, until the next batch. States are large: their memory serves batch after batch.
  State& state_like(const State& from);

  Model model_;
  std::int64_t window_;
  std::int64_t reported_ = 0;
  std::function<void(std::int64_t)> progress_;
  Session session_;
  State empty_;
  std::shared_ptr<const Backend> elsewhere_;  // null where the model runs on the host, as what logits say does
  std::deque<State> states_;
  std::size_t states_used_ = 0;
};

}  // namespace molt::eval
