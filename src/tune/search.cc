#include "tune/search.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/fail.h"

namespace molt {
namespace {

/// Shares of the wanted cut that the stages reach.
constexpr double kStages[] = {0.43, 0.67, 0.83, 0.93, 1.0};

/// A cell whose loss, in shares of a set's truncation loss, is above this when skipped is tried writing, too.
constexpr double kWorthWriting = 0.025;

/// From the second stage on so many times the cut still wanted is measured again, the cheapest cells first.
constexpr double kMeasuredAgain = 2.5;

constexpr double kLeastLoss = 1e-5;

class Search {
 public:
  Search(const ModelCore& model, const PromptClass& prompts, MapFitter& fitter, const SearchOptions& options)
      : model_(model),
        prompts_(prompts),
        fitter_(fitter),
        options_(options),
        layers_(model.config().n_layer),
        letter_(model.block(0).heads() > 0 ? 'L' : 'W'),
        ops_(prompts.tiers.size(), std::string(static_cast<std::size_t>(layers_), 'F')) {
    for (std::string& ops : ops_) ops.back() = 'W';
  }

  SearchResult run() {
    for (std::size_t stage = 0; stage < std::size(kStages); ++stage) {
      begin_stage(stage);
      measure(stage);
      accept(kStages[stage] * options_.flops);
    }
    if (cut() < options_.flops - 0.003) {
      fail("no schedule cuts {} of the FLOPs of {} prompts: the most that could be taken is {:.3f}", options_.flops,
           prompts_.name, cut());
    }
    return result();
  }

 private:
  /// One cell of the schedule and what another letter there would cost.
  struct Move {
    std::size_t tier;
    std::int64_t layer;
    char letter;
    double saves;  // share of all FLOPs
    double loss;
    double price() const { return std::max(loss, kLeastLoss) / saves; }
  };

  double share(std::size_t tier) const { return prompts_.tiers[tier] - (tier == 0 ? 0 : prompts_.tiers[tier - 1]); }

  std::shared_ptr<const WriteMap> map_of(const WriteMapKey& key) {
    auto known = maps_.find(key);
    if (known == maps_.end()) {
      std::vector<std::int64_t> heads;
      const auto& horizons = fitter_.horizons()[static_cast<std::size_t>(key.to)];
      for (std::size_t h = 0; h < horizons.size(); ++h) {
        if (key.letter != 'L' || horizons[h] > options_.least_horizon) heads.push_back(static_cast<std::int64_t>(h));
      }
      WriteMapTensors tensors = fitter_.fit(key, heads);
      auto packed = WriteMaps::pack(tensors, key, model_, "the fitted maps");
      known = maps_.emplace(key, std::make_pair(std::move(tensors), std::move(packed))).first;
    }
    return known->second.second;
  }

  /// A block's cost for one token, relative to the dense block's; nothing when it needs a map out of reach.
  std::optional<double> cost(const std::string& ops, std::int64_t layer) {
    const char letter = ops[static_cast<std::size_t>(layer)];
    if (letter == 'S') return 0.0;
    const bool last = layer == layers_ - 1;
    if (letter == 'F' && !last) return 1.0;
    const std::optional<WriteMapKey> key = map_needed(options_.rule, ops, layer);
    if (key && key->to - key->from > fitter_.reach()) return std::nullopt;
    const Block& block = model_.block(layer);
    return block.write_flops(key ? map_of(*key).get() : nullptr) / block.cost().flops_per_token;
  }

  /// What a tier's letters cost, as a share of the whole model's layers; nothing when a map is out of reach.
  std::optional<double> cost(const std::string& ops) {
    double total = 0;
    for (std::int64_t layer = 0; layer < layers_; ++layer) {
      const std::optional<double> one = cost(ops, layer);
      if (!one) return std::nullopt;
      total += *one;
    }
    return total / static_cast<double>(layers_);
  }

  /// The cut of a prompt no token of which belongs to a tier: the last block's output is needed for one token alone.
  double least_cut() { return 1 - *cost(std::string(static_cast<std::size_t>(layers_), 'F')); }

  /// Of the present schedule.
  double cut() {
    double saved = (1 - prompts_.tiers.back()) * least_cut();
    for (std::size_t tier = 0; tier < ops_.size(); ++tier) saved += share(tier) * (1 - *cost(ops_[tier]));
    return saved;
  }

  /// By how much tiers must shrink for the cut to be the one asked for: cells are too coarse to meet it.
  double shrinkage() {
    // With edges times s, what tiers save beyond least_cut() is s times as much.
    const double s = (options_.flops - least_cut()) / (cut() - least_cut());
    return s > 0 && s < 1 ? s : 1;
  }

  Reduction::Core core_of(const std::vector<std::string>& ops) {
    SurrogateRule rule;
    for (std::size_t tier = 0; tier < ops.size(); ++tier) rule.tiers.push_back({prompts_.tiers[tier], ops[tier]});
    Reduction::Core core;
    core.model = nullptr;  // nobody asks: the core does not outlive the search
    core.method = "surrogate";
    core.reducer = make_surrogate({rule}, layers_, false, [this](WriteMapKey key) {
      key.rule = options_.rule;
      return map_of(key);
    });
    return core;
  }

  /// Fresh text; the loss of truncation on it, by which losses are weighed, and that of the present schedule.
  void begin_stage(std::size_t stage) {
    trials_.clear();
    references_.clear();
    const SurrogateRule truncation{
        std::nullopt, 0, {{options_.flops, std::string(static_cast<std::size_t>(layers_), 'S')}}};
    Reduction::Core truncate;
    truncate.method = "truncate";
    truncate.reducer = make_surrogate({truncation}, layers_, false, {});
    for (const ProbeSet& set : prompts_.by_stage[stage % prompts_.by_stage.size()]) {
      trials_.emplace_back(model_, set);
      references_.push_back(std::max(1e-6, trials_.back().evaluate(truncate).kl));
    }
    const Reduction::Core core = core_of(ops_);
    base_.clear();
    for (Trial& trial : trials_) base_.push_back(trial.evaluate(core, true).kl);
  }

  /// How much the loss grows with other letters from `layer` on, in shares of truncation's.
  double growth(const std::vector<std::string>& ops, std::int64_t layer) {
    const Reduction::Core core = core_of(ops);
    double growth = 0;
    for (std::size_t i = 0; i < trials_.size(); ++i) {
      growth += (trials_[i].vary(core, layer).kl - base_[i]) / references_[i];
    }
    return growth / static_cast<double>(trials_.size());
  }

  std::optional<Move> try_letter(std::size_t tier, std::int64_t layer, char letter) {
    std::vector<std::string> ops = ops_;
    ops[tier][static_cast<std::size_t>(layer)] = letter;
    const std::optional<double> after = cost(ops[tier]);
    if (!after) return std::nullopt;
    const double saves = share(tier) * (*cost(ops_[tier]) - *after);
    if (saves < 1e-6) return std::nullopt;
    return Move{tier, layer, letter, saves, growth(ops, layer)};
  }

  /// The cells that are worth measuring in a stage, dearest knowledge last.
  std::vector<std::pair<std::size_t, std::int64_t>> cells(std::size_t stage) {
    std::vector<std::pair<std::size_t, std::int64_t>> all;
    for (std::size_t tier = 0; tier < ops_.size(); ++tier) {
      // Block 0 turns tokens into what all later blocks work on: leaving it out loses far more than it saves.
      for (std::int64_t layer = 1; layer < layers_; ++layer) {
        if (ops_[tier][static_cast<std::size_t>(layer)] != 'S') all.emplace_back(tier, layer);
      }
    }
    if (stage == 0) return all;
    const auto known = [&](const auto& cell) {
      const auto it = measured_.find(cell);
      return it == measured_.end() ? std::numeric_limits<double>::infinity() : it->second.price();
    };
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return known(a) < known(b); });
    double wanted = kMeasuredAgain * (kStages[stage] * options_.flops - cut());
    std::size_t count = 0;
    while (count < all.size() && wanted > 0 && measured_.contains(all[count]))
      wanted -= measured_.at(all[count++]).saves;
    all.resize(count);
    return all;
  }

  void measure(std::size_t stage) {
    moves_.clear();
    const auto todo = cells(stage);
    std::size_t done = 0;
    for (const auto& [tier, layer] : todo) {
      const bool writes = ops_[tier][static_cast<std::size_t>(layer)] != 'F';
      std::optional<Move> best = try_letter(tier, layer, 'S');
      if (best && stage == 0) sensitivities_.push_back({tier, layer, best->loss});
      if (!writes && layer != layers_ - 1 && (!best || best->loss > kWorthWriting)) {
        const std::optional<Move> writing = try_letter(tier, layer, letter_);
        if (writing && (!best || writing->price() < best->price())) best = writing;
      }
      if (!best && layer == layers_ - 1) best = try_letter(tier, layer, letter_);
      if (best) {
        moves_.push_back(*best);
        measured_.insert_or_assign({tier, layer}, *best);
      }
      ++done;
      if (options_.progress) {
        const double stages_done =
            static_cast<double>(stage) + static_cast<double>(done) / static_cast<double>(todo.size());
        options_.progress(static_cast<std::int64_t>(1000 * stages_done),
                          1000 * static_cast<std::int64_t>(std::size(kStages)));
      }
    }
  }

  /// Takes the cheapest moves until the cut is reached.
  void accept(double target) {
    std::stable_sort(moves_.begin(), moves_.end(), [](const Move& a, const Move& b) { return a.price() < b.price(); });
    for (const Move& move : moves_) {
      if (cut() >= target) break;
      std::vector<std::string> ops = ops_;
      ops[move.tier][static_cast<std::size_t>(move.layer)] = move.letter;
      // Beside other moves it may need a map out of reach, or save nothing any more.
      const std::optional<double> after = cost(ops[move.tier]);
      if (after && *after < *cost(ops_[move.tier])) ops_ = std::move(ops);
    }
  }

  SearchResult result() {
    SearchResult result;
    result.rule.up_to = prompts_.up_to;
    const double shrinkage = this->shrinkage();
    for (std::size_t tier = 0; tier < ops_.size(); ++tier) {
      const double until =
          shrinkage < 1 ? std::round(1e4 * shrinkage * prompts_.tiers[tier]) / 1e4 : prompts_.tiers[tier];
      result.rule.tiers.push_back({until, ops_[tier]});
      for (std::int64_t layer = 0; layer < layers_; ++layer) {
        const std::optional<WriteMapKey> key = map_needed(options_.rule, ops_[tier], layer);
        if (!key) continue;
        map_of(*key);
        result.maps[*key] = maps_.at(*key).first;
      }
    }
    result.sensitivities = sensitivities_;
    result.cut = shrinkage < 1 ? options_.flops : cut();
    return result;
  }

  const ModelCore& model_;
  const PromptClass& prompts_;
  MapFitter& fitter_;
  const SearchOptions& options_;
  std::int64_t layers_;
  char letter_;  // of writing: some heads where there are heads, else all channels
  std::vector<std::string> ops_;
  std::map<WriteMapKey, std::pair<WriteMapTensors, std::shared_ptr<const WriteMap>>> maps_;
  std::vector<Trial> trials_;
  std::vector<double> references_;
  std::vector<double> base_;
  std::vector<Move> moves_;
  std::map<std::pair<std::size_t, std::int64_t>, Move> measured_;
  std::vector<Sensitivity> sensitivities_;
};

}  // namespace

SearchResult search(const ModelCore& model, const PromptClass& prompts, MapFitter& fitter,
                    const SearchOptions& options) {
  return Search(model, prompts, fitter, options).run();
}

}  // namespace molt
