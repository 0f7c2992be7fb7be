#include "eval/evaluate.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>

#include "base/check.h"
#include "base/fail.h"

namespace molt::eval {
namespace {

/// Thrown through the session when the user wants no more.
struct Stopped {};

/// Where the score of a request is to be found.
struct Address {
  std::size_t prompt;
  std::size_t continuation;
};

/// Continuations of a prompt: each needs a state of its own. Whole documents all follow the same one token.
constexpr std::size_t kMostContinuations = 8;

/// All that is to be scored: every context once, unless very much follows it, every continuation of it once.
class Prompts {
 public:
  Address add(const Request& request) {
    std::vector<std::size_t>& alike = by_context_[request.context];
    for (const std::size_t prompt : alike) {
      const auto& continuations = prompts_[prompt].continuations;
      const auto known = std::find(continuations.begin(), continuations.end(), request.continuation);
      if (known != continuations.end()) return {prompt, static_cast<std::size_t>(known - continuations.begin())};
    }
    if (alike.empty() || prompts_[alike.back()].continuations.size() == kMostContinuations) {
      alike.push_back(prompts_.size());
      prompts_.push_back({request.context, {}});
    }
    auto& continuations = prompts_[alike.back()].continuations;
    continuations.push_back(request.continuation);
    return {alike.back(), continuations.size() - 1};
  }

  const std::vector<Prompt>& all() const { return prompts_; }

 private:
  std::vector<Prompt> prompts_;
  std::map<std::vector<TokenId>, std::vector<std::size_t>> by_context_;
};

/// A setting as the runner knows it: null for the dense model.
struct Run {
  std::string name;
  const Reduction* reduction;
  std::string key;                               // in a journal
  std::vector<std::optional<Outcome>> outcomes;  // by prompt

  /// Tokens in the measure of the progress bar: dense ones.
  double weight() const { return reduction == nullptr ? 1.0 : 1.0 - reduction->flops(); }
};

std::int64_t scored_tokens(const Prompt& prompt) {
  std::int64_t tokens = 0;
  for (const auto& continuation : prompt.continuations) tokens += static_cast<std::int64_t>(continuation.size()) - 1;
  return tokens;
}

/// Takes the prompts through all settings, batch by batch.
class Runner {
 public:
  Runner(const Model& model, const std::vector<Prompt>& prompts, std::vector<Run>& runs, const EvaluateOptions& options)
      : prompts_(prompts), runs_(runs), options_(options), scorer_(model, options.window, [this](std::int64_t tokens) {
          report(static_cast<double>(tokens) * weight_);
        }) {}

  /// False when it was stopped.
  bool run() {
    make_batches();
    try {
      for (const std::vector<std::size_t>& batch : batches_) run_batch(batch);
    } catch (const Stopped&) {
      return false;
    }
    return true;
  }

 private:
  /// Batches of prompts, the longest first, and what is in the journal already.
  void make_batches() {
    std::vector<std::size_t> order(prompts_.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return prompts_[a].context.size() > prompts_[b].context.size();
    });
    const std::vector<const Prompt*> sorted = pointers(order);
    const Shard shard = options_.shard;
    std::size_t number = 0;
    for (std::size_t at = 0; at < order.size(); ++number) {
      const std::size_t count = scorer_.batch_size(std::span(sorted).subspan(at), options_.kl);
      const auto begin = order.begin() + static_cast<std::ptrdiff_t>(at);
      if (number % shard.count == shard.index) batches_.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
      at += count;
    }
    for (const auto& batch : batches_) {
      const std::vector<const Run*> missing = take_from_journal(batch);
      for (const Run* run : missing) total_ += cost(batch, *run);
      if (needs_dense(missing)) total_ += cost(batch, runs_.front());
    }
  }

  std::vector<const Prompt*> pointers(const std::vector<std::size_t>& indices) const {
    std::vector<const Prompt*> pointers;
    for (const std::size_t p : indices) pointers.push_back(&prompts_[p]);
    return pointers;
  }

  /// Settings that have yet to score the batch. One with a part of it scores it whole: results then do not depend on
  /// where an earlier run was stopped.
  std::vector<const Run*> take_from_journal(const std::vector<std::size_t>& batch) {
    std::vector<const Run*> missing;
    for (Run& run : runs_) {
      const bool kl = options_.kl && run.reduction != nullptr;
      bool whole = options_.journal != nullptr;
      for (std::size_t i = 0; i < batch.size() && whole; ++i) {
        const Outcome* known = options_.journal->find(run.key, prompts_[batch[i]], kl);
        whole = known != nullptr;
        if (whole) run.outcomes[batch[i]] = *known;
      }
      if (whole) continue;
      for (const std::size_t p : batch) run.outcomes[p].reset();
      missing.push_back(&run);
    }
    return missing;
  }

  /// Whether the dense model must run again only to be compared with.
  bool needs_dense(const std::vector<const Run*>& missing) const {
    return options_.kl && !missing.empty() && missing.front()->reduction != nullptr;
  }

  double cost(const std::vector<std::size_t>& batch, const Run& run) const {
    double tokens = 0;
    for (const std::size_t p : batch) {
      tokens += static_cast<double>(prompts_[p].context.size()) * run.weight();
      tokens += static_cast<double>(scored_tokens(prompts_[p])) * run.weight();
    }
    return tokens;
  }

  void run_batch(const std::vector<std::size_t>& batch) {
    const std::vector<const Prompt*> prompts = pointers(batch);
    Distributions dense;
    Distributions* const keep = options_.kl ? &dense : nullptr;
    const auto is_missing = [&](const Run& run) { return !run.outcomes[batch.front()].has_value(); };
    const bool any = std::any_of(runs_.begin(), runs_.end(), is_missing);
    for (Run& run : runs_) {
      const bool is_dense = run.reduction == nullptr;
      if (!is_missing(run) && !(is_dense && any && options_.kl)) continue;
      weight_ = run.weight();
      std::vector<Outcome> outcomes =
          scorer_.score(prompts, run.reduction, is_dense ? keep : nullptr, is_dense ? nullptr : keep);
      if (!is_missing(run)) continue;
      for (std::size_t i = 0; i < batch.size(); ++i) {
        if (options_.journal != nullptr) options_.journal->add(run.key, *prompts[i], outcomes[i]);
        run.outcomes[batch[i]] = std::move(outcomes[i]);
      }
    }
  }

  void report(double tokens) {
    done_ += tokens;
    if (!options_.progress) return;
    if (!options_.progress(static_cast<std::int64_t>(done_), static_cast<std::int64_t>(total_))) throw Stopped();
  }

  const std::vector<Prompt>& prompts_;
  std::vector<Run>& runs_;  // the dense model first
  const EvaluateOptions& options_;
  Scorer scorer_;
  std::vector<std::vector<std::size_t>> batches_;
  double weight_ = 1;
  double done_ = 0;
  double total_ = 0;
};

/// The scores of an item under a setting.
std::vector<Score> scores_of(const std::vector<Address>& addresses, const Run& run) {
  std::vector<Score> scores;
  for (const Address& at : addresses) scores.push_back(run.outcomes[at.prompt]->scores[at.continuation]);
  return scores;
}

/// Reports one task.
class Reporter {
 public:
  Reporter(const TaskItems& task, const std::vector<std::vector<Address>>& addresses, const std::vector<Run>& runs,
           const std::vector<Prompt>& prompts, const EvaluateOptions& options)
      : task_(task), addresses_(addresses), runs_(runs), prompts_(prompts), options_(options) {}

  TaskReport report() {
    TaskReport report{task_.name, task_.task, 0, static_cast<std::int64_t>(task_.items.size()), {}, {}, {}};
    for (const Run& run : runs_) report.settings.push_back(run.name);
    std::vector<std::string> names{""};
    std::map<std::string, std::vector<std::size_t>> members;
    for (std::size_t i = 0; i < task_.items.size(); ++i) {
      if (!is_scored(i)) continue;
      ++report.items;
      if (options_.samples) report.samples.push_back(sample(i));
      members[""].push_back(i);
      for (const std::string& group : task_.items[i].groups) {
        if (std::find(names.begin(), names.end(), group) == names.end()) names.push_back(group);
        members[group].push_back(i);
      }
    }
    if (report.items == 0) return report;
    for (const std::string& name : names) {
      GroupReport group{name, {}};
      for (const Run& run : runs_) group.rows.push_back(row(members[name], run));
      report.groups.push_back(std::move(group));
    }
    return report;
  }

 private:
  /// Whether every setting has scored the item.
  bool is_scored(std::size_t item) const {
    return std::all_of(runs_.begin(), runs_.end(), [&](const Run& run) {
      return std::all_of(addresses_[item].begin(), addresses_[item].end(),
                         [&](const Address& at) { return run.outcomes[at.prompt].has_value(); });
    });
  }

  Sample sample(std::size_t item) const {
    Sample sample{item, {}};
    for (const Run& run : runs_) sample.scores.push_back(scores_of(addresses_[item], run));
    return sample;
  }

  Row row(const std::vector<std::size_t>& items, const Run& run) const {
    Row row;
    row.setting = run.name;
    if (run.reduction != nullptr) row.cut_asked = run.reduction->flops();
    add_cost(items, run, row);
    std::vector<std::int64_t> clusters;
    for (const std::size_t i : items) clusters.push_back(task_.items[i].cluster);
    for (const Metric& metric : task_.task->metrics) {
      std::vector<double> values;
      std::vector<double> changes;
      std::vector<double> weights;
      for (const std::size_t i : items) {
        if (metric.weight != nullptr) weights.push_back(metric.weight(task_.items[i]));
        values.push_back(metric.value(task_.items[i], scores_of(addresses_[i], run)));
        changes.push_back(values.back() - metric.value(task_.items[i], scores_of(addresses_[i], runs_.front())));
      }
      Figure figure{metric.name, estimate(values, clusters, weights), std::nullopt};
      if (run.reduction != nullptr) figure.change = estimate(changes, clusters, weights);
      row.figures.push_back(figure);
    }
    if (options_.kl && run.reduction != nullptr)
      row.figures.push_back({"kl", divergence(items, clusters, run), std::nullopt});
    return row;
  }

  Estimate divergence(const std::vector<std::size_t>& items, const std::vector<std::int64_t>& clusters,
                      const Run& run) const {
    std::vector<double> values;
    for (const std::size_t i : items) {
      double sum = 0;
      double tokens = 0;
      for (const Score& score : scores_of(addresses_[i], run)) {
        sum += *score.kl * static_cast<double>(score.logprobs.size());
        tokens += static_cast<double>(score.logprobs.size());
      }
      values.push_back(sum / tokens);
    }
    return estimate(values, clusters);
  }

  void add_cost(const std::vector<std::size_t>& items, const Run& run, Row& row) const {
    std::vector<bool> counted(prompts_.size());
    double flops = 0;
    double dense_flops = 0;
    std::int64_t reduced = 0;
    for (const std::size_t i : items) {
      bool any = false;
      for (const Address& at : addresses_[i]) {
        const Outcome& outcome = *run.outcomes[at.prompt];
        any = any || outcome.flops < outcome.dense_flops;
        if (counted[at.prompt]) continue;
        counted[at.prompt] = true;
        flops += outcome.flops;
        dense_flops += outcome.dense_flops;
        row.seconds += outcome.seconds;
        row.tokens += static_cast<std::int64_t>(prompts_[at.prompt].context.size());
      }
      if (any) ++reduced;
    }
    row.cut = run.reduction != nullptr && dense_flops > 0 ? 1 - flops / dense_flops : 0;
    row.reduced = static_cast<double>(reduced) / static_cast<double>(items.size());
  }

  const TaskItems& task_;
  const std::vector<std::vector<Address>>& addresses_;  // of each item's requests
  const std::vector<Run>& runs_;
  const std::vector<Prompt>& prompts_;
  const EvaluateOptions& options_;
};

std::vector<Run> make_runs(const std::vector<Setting>& settings) {
  std::vector<Run> runs{{kDense, nullptr, kDense, {}}};
  for (const Setting& setting : settings) {
    check_scope(setting.name, setting.reduction);
    for (const Run& run : runs) {
      if (run.name == setting.name) fail("the reduction '{}' is named twice", setting.name);
    }
    runs.push_back({setting.name, &setting.reduction, setting.reduction.text(), {}});
  }
  return runs;
}

}  // namespace

Evaluation evaluate(const Model& model, const std::vector<TaskItems>& tasks, const std::vector<Setting>& settings,
                    const EvaluateOptions& options) {
  std::vector<Run> runs = make_runs(settings);
  Prompts prompts;
  std::vector<std::vector<std::vector<Address>>> addresses;  // by task, item, request
  for (const TaskItems& task : tasks) {
    auto& of_task = addresses.emplace_back();
    for (const Item& item : task.items) {
      auto& of_item = of_task.emplace_back();
      for (const Request& request : item.requests) of_item.push_back(prompts.add(request));
    }
  }
  for (Run& run : runs) run.outcomes.resize(prompts.all().size());

  Evaluation evaluation;
  evaluation.complete = Runner(model, prompts.all(), runs, options).run();
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    evaluation.tasks.push_back(Reporter(tasks[t], addresses[t], runs, prompts.all(), options).report());
  }
  return evaluation;
}

}  // namespace molt::eval
