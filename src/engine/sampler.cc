#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/random.h"
#include "molt/generate.h"

namespace molt {

void check(const SamplingOptions& options) {
  // Negated comparisons: they refuse NaN, too.
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) {
    fail("temperature must be 0 (greedy) or a positive number, not {}", options.temperature);
  }
  if (options.top_k < 0) fail("top-k must be 0 (all tokens) or a positive number, not {}", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) fail("top-p must lie in (0, 1], not {}", options.top_p);
  if (!(options.min_p >= 0 && options.min_p <= 1)) fail("min-p must lie in [0, 1], not {}", options.min_p);
  if (!(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty))) {
    fail("repetition penalty must be a positive number (1: none), not {}", options.repetition_penalty);
  }
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_state_(options.seed) {
  check(options_);
}

TokenId Sampler::next(std::span<const float> logits, std::int64_t usable, std::span<const TokenId> seen) {
  if (usable < 1 || usable > static_cast<std::int64_t>(logits.size())) {
    fail("no token can be drawn: {} of {} logits stand for tokens; is this the model's own tokenizer?", usable,
         logits.size());
  }
  logits = penalise(logits.first(static_cast<std::size_t>(usable)), seen);
  const auto best = std::max_element(logits.begin(), logits.end(), [](float a, float b) {
    return a < b || (std::isnan(a) && !std::isnan(b));  // NaN is less than everything
  });
  if (!std::isfinite(*best)) {
    fail("the model's logits hold no finite number (the largest is {}): its weights or its state are broken", *best);
  }
  if (options_.temperature == 0) return static_cast<TokenId>(best - logits.begin());

  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i])) candidates_.push_back({static_cast<TokenId>(i), logits[i]});
  }
  keep_likely();
  return draw();
}

std::span<const float> Sampler::penalise(std::span<const float> logits, std::span<const TokenId> seen) {
  if (options_.repetition_penalty == 1) return logits;
  penalised_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const TokenId id : seen) {
    const auto i = static_cast<std::size_t>(id);
    if (i >= logits.size()) continue;
    penalised_[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;  // from the original: once a token
  }
  return penalised_;
}

/// Turns candidates' logits into weights, sorted down, and drops those that top-k, top-p and min-p exclude.
void Sampler::keep_likely() {
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
  };
  const auto size = static_cast<std::int64_t>(candidates_.size());
  if (options_.top_k > 0 && options_.top_k < size) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), more_likely);
    candidates_.resize(static_cast<std::size_t>(options_.top_k));
  }
  std::sort(candidates_.begin(), candidates_.end(), more_likely);
  const double top = candidates_.front().weight;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp((candidate.weight - top) / options_.temperature);
    total += candidate.weight;
  }
  std::size_t kept = candidates_.size();
  if (options_.top_p < 1) {
    double sum = 0;
    for (kept = 0; kept < candidates_.size() && sum < options_.top_p * total; ++kept) sum += candidates_[kept].weight;
  }
  // The most likely weight is 1: min-p compares with the weights as they are.
  while (kept > 1 && candidates_[kept - 1].weight < options_.min_p) --kept;
  candidates_.resize(std::max<std::size_t>(1, kept));
}

TokenId Sampler::draw() {
  Random random(random_state_);
  random_state_ = random.next();
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  double left = random.uniform() * total;
  for (const Candidate& candidate : candidates_) {
    left -= candidate.weight;
    if (left < 0) return candidate.id;
  }
  return candidates_.back().id;
}

}  // namespace molt
