// Scoring: how far from the dense model a schedule takes the tokens that follow prompts.
//
// A Trial holds a set of probes and the dense model's distributions over what follows them. evaluate() runs a reduction
// over the prompts and gives the mean Kullback-Leibler divergence; it keeps the residual streams of that run, so that
// vary() judges a reduction that differs from it from some block on by running those blocks alone. Used by one thread.
#pragma once

#include <memory>
#include <vector>

#include "reduction/pass.h"
#include "tune/probes.h"

namespace molt {

/// Negative log-probability of the first token behind each probe's prompt, dense.
std::vector<double> first_nll(const ModelCore& model, const std::vector<Probe>& probes);

struct Loss {
  double kl = 0;   // nats a token, from the dense model
  double nll = 0;  // increase of the tokens' own negative log-probability, nats a token
  double cut = 0;  // of FLOPs
};

class Trial {
 public:
  Trial(const ModelCore& model, ProbeSet probes);
  ~Trial();
  Trial(Trial&&) noexcept;

  const std::string& name() const;
  std::int64_t prompt_tokens() const;

  /// Runs a reduction; with `keep`, vary() starts from it.
  Loss evaluate(const Reduction::Core& reduction, bool keep = false);

  /// A reduction that decides by position only and does the same as the kept one before block `layer`.
  Loss vary(const Reduction::Core& reduction, std::int64_t layer);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace molt
