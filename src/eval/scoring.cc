#include "eval/scoring.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.h"
#include "base/fail.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace molt::eval {
namespace {

constexpr std::int64_t kWindowsAtOnce = 4;
constexpr std::int64_t kBytesAtOnce = std::int64_t{512} << 20;

Matrix<const float> as_row(std::span<const float> values) {
  return {values.data(), 1, static_cast<std::int64_t>(values.size())};
}

/// log(sum(exp(logits))). Throws Error where that is no number.
double log_sum_exp(const Backend& backend, std::span<const float> logits) {
  double sum = 0;
  backend.log_sum_exp(as_row(logits), &sum);
  if (!std::isfinite(sum)) fail("the model yields logits that are no finite numbers: are its weights damaged?");
  return sum;
}

/// KL(p || q) of two lists of log-probabilities.
double divergence(const Backend& backend, std::span<const float> p, std::span<const float> q) {
  double sum = 0;
  backend.divergence(as_row(p), as_row(q), &sum);
  return sum;
}

}  // namespace

/// A batch on its way: turns logits into scores.
class Scorer::Batch {
 public:
  Batch(const Backend& backend, std::span<const Prompt* const> prompts, Distributions* keep,
        const Distributions* compare)
      : backend_(backend), keep_(keep), compare_(compare) {
    std::size_t tokens = 0;
    for (const Prompt* prompt : prompts) {
      Outcome& outcome = outcomes_.emplace_back();
      for (const std::vector<TokenId>& continuation : prompt->continuations) {
        MOLT_CHECK(!continuation.empty());
        Score& score = outcome.scores.emplace_back();
        score.logprobs.resize(continuation.size());
        score.greedy = true;
        if (compare != nullptr) score.kl = 0;
        first_token_.push_back(tokens);
        tokens += continuation.size();
      }
    }
    MOLT_CHECK(compare == nullptr || compare->size() == tokens);
    if (keep != nullptr) keep->assign(tokens, {});
  }

  /// Token `at` of continuation `continuation`, the batch's `flat`-th, whose ids are `ids`.
  void take(std::size_t prompt, std::size_t continuation, std::size_t flat, std::size_t at,
            std::span<const TokenId> ids, std::span<const float> logits) {
    Score& score = outcomes_[prompt].scores[continuation];
    const double total = log_sum_exp(backend_, logits);
    const auto token = static_cast<std::size_t>(ids[at]);
    score.logprobs[at] = static_cast<float>(static_cast<double>(logits[token]) - total);
    const auto likeliest = std::max_element(logits.begin(), logits.end()) - logits.begin();
    score.greedy = score.greedy && static_cast<std::size_t>(likeliest) == token;
    if (keep_ == nullptr && compare_ == nullptr) return;

    std::vector<float> distribution(logits.size());
    std::transform(logits.begin(), logits.end(), distribution.begin(),
                   [&](float logit) { return static_cast<float>(static_cast<double>(logit) - total); });
    const std::size_t place = first_token_[flat] + at;
    if (compare_ != nullptr) {
      *score.kl += divergence(backend_, (*compare_)[place], distribution) / static_cast<double>(ids.size());
    }
    if (keep_ != nullptr) (*keep_)[place] = std::move(distribution);
  }

  std::vector<Outcome>& outcomes() { return outcomes_; }

 private:
  const Backend& backend_;
  Distributions* keep_;
  const Distributions* compare_;
  std::vector<std::size_t> first_token_;  // of each continuation, among the batch's
  std::vector<Outcome> outcomes_;
};

Scorer::Scorer(const Model& model, std::int64_t window, std::function<void(std::int64_t)> progress)
    : model_(model),
      window_(window),
      progress_(std::move(progress)),
      session_(model, {.window = window,
                       .progress =
                           [this](std::int64_t done, std::int64_t total) {
                             const std::int64_t news = done - reported_;
                             reported_ = done == total ? 0 : done;
                             if (progress_) progress_(news);
                           }}),
      empty_(model),
      elsewhere_(model.core()->backend().memory().is_host() ? nullptr : make_backend("cpu")) {}

State& Scorer::state_like(const State& from) {
  if (states_used_ == states_.size()) {
    ++states_used_;
    return states_.emplace_back(from);
  }
  return states_[states_used_++] = from;
}

std::vector<Outcome> Scorer::score(std::span<const Prompt* const> prompts, const Reduction* reduction,
                                   Distributions* keep, const Distributions* compare) {
  Batch batch(elsewhere_ != nullptr ? *elsewhere_ : model_.core()->backend(), prompts, keep, compare);
  reported_ = 0;
  states_used_ = 0;
  std::vector<State*> states;
  std::vector<ReductionRecord> records(prompts.size());
  std::vector<Sequence> contexts;
  std::int64_t tokens = 0;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    states.push_back(&state_like(empty_));
    contexts.push_back({states[p], prompts[p]->context, {.reduction = reduction, .record = &records[p]}});
    tokens += static_cast<std::int64_t>(prompts[p]->context.size());
  }
  const auto start = std::chrono::steady_clock::now();
  const std::span<const float> last = session_.feed(contexts);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  // The logits behind a context tell of each continuation's first token; the others' come from feeding all but its
  // last.
  struct Rest {
    std::size_t prompt, continuation, flat;
    State* state;
  };
  std::vector<Rest> rests;
  std::size_t flat = 0;
  const auto vocab = static_cast<std::size_t>(model_.vocab_size());
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const auto& continuations = prompts[p]->continuations;
    for (std::size_t c = 0; c < continuations.size(); ++c, ++flat) {
      batch.take(p, c, flat, 0, continuations[c], last.subspan(p * vocab, vocab));
      if (continuations[c].size() == 1) continue;
      const bool is_last = c + 1 == continuations.size();  // which may use up the state behind the context
      rests.push_back({p, c, flat, is_last ? states[p] : &state_like(*states[p])});
    }
    Outcome& outcome = batch.outcomes()[p];
    outcome.seconds = seconds * static_cast<double>(prompts[p]->context.size()) / static_cast<double>(tokens);
    outcome.flops = records[p].flops;
    outcome.dense_flops = records[p].dense_flops;
  }
  if (!rests.empty()) {
    std::vector<Sequence> sequences;
    for (const Rest& rest : rests) {
      const std::vector<TokenId>& ids = prompts[rest.prompt]->continuations[rest.continuation];
      sequences.push_back({rest.state, std::span(ids).first(ids.size() - 1)});
    }
    session_.feed_all(sequences, [&](std::size_t r, std::int64_t position, std::span<const float> logits) {
      const Rest& rest = rests[r];
      batch.take(rest.prompt, rest.continuation, rest.flat, static_cast<std::size_t>(position) + 1,
                 prompts[rest.prompt]->continuations[rest.continuation], logits);
    });
  }
  return std::move(batch.outcomes());
}

void check_scope(const std::string& name, const Reduction& reduction) {
  if (reduction.scope() != Reduction::Scope::prompt) {
    fail("{}: what is scored runs dense here, so the scope must be prompt", name);
  }
}

std::size_t Scorer::batch_size(std::span<const Prompt* const> prompts, bool distributions) const {
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;
  const std::int64_t token_bytes = model_.core()->state_layout().kv_token_bytes();  // of blocks: the last is not full
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const auto& continuations = prompts[p]->continuations;
    tokens += static_cast<std::int64_t>(prompts[p]->context.size());
    bytes += empty_.bytes() * std::max<std::int64_t>(1, static_cast<std::int64_t>(continuations.size()));
    bytes += token_bytes * (static_cast<std::int64_t>(prompts[p]->context.size()) + kKvBlock);
    for (const auto& c : continuations) {
      bytes += token_bytes * (static_cast<std::int64_t>(c.size()) + kKvBlock);
      tokens += static_cast<std::int64_t>(c.size()) - 1;
      if (distributions) bytes += static_cast<std::int64_t>(c.size()) * model_.vocab_size() * 4;
    }
    if (p > 0 && (tokens > kWindowsAtOnce * window_ || bytes > kBytesAtOnce)) return p;
  }
  return prompts.size();
}

}  // namespace molt::eval
