#include "compress/prune_model.h"

#include <fnmatch.h>

#include <algorithm>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/fnv1a.h"
#include "compress/calibration_pass.h"
#include "compress/model_folder.h"
#include "compress/output_error.h"
#include "compress/pruned_layers.h"
#include "io/checkpoint_copy.h"
#include "model/fingerprint.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

bool matches(const std::string& name, const std::string& part) {
  return ::fnmatch(("*" + part + "*").c_str(), name.c_str(), 0) == 0;
}

bool is_wanted(const std::string& name, const PruneOptions& options) {
  const auto matched = [&name](const std::string& part) { return matches(name, part); };
  return (options.only.empty() || std::any_of(options.only.begin(), options.only.end(), matched)) &&
         std::none_of(options.skip.begin(), options.skip.end(), matched);
}

/// What two runs must have in common for one to go on with the other's layers; the heart of pruning.json as well.
Json identity_of(const std::string& fingerprint, const PruneOptions& options) {
  const PruneSettings& settings = options.settings;
  Json json = {{"version", 1}, {"model", fingerprint}, {"method", options.method}};
  if (settings.sparsity.pattern()) {
    json["pattern"] = settings.sparsity.text();
  } else {
    json["sparsity"] = settings.sparsity.share;
  }
  if (find_pruner(options.method).calibrated) {
    json["damping"] = settings.damping;
    json["block"] = settings.block;
    json["polish"] = settings.polish;
  }
  json["refine"] = settings.refine;
  if (!options.only.empty()) json["only"] = options.only;
  if (!options.skip.empty()) json["skip"] = options.skip;
  if (!options.text.empty()) {
    Fnv1a hash;
    hash.add(options.text);
    json["calibration"] = {{"samples", options.calibration.samples},
                           {"length", options.calibration.length},
                           {"seed", options.calibration.seed},
                           {"text_bytes", options.text.size()},
                           {"text_fingerprint", fmt::format("{:016x}", hash.value())}};
  }
  return json;
}

/// Without text the pass only tells which matrices there are: one token will do.
std::vector<std::vector<TokenId>> windows_of(const Checkpoint& checkpoint, const ModelSpec& spec,
                                             const PruneOptions& options) {
  if (options.text.empty()) return {{0}};
  return calibration_windows(checkpoint.folder(), spec.config, options.tokenizer, options.text, options.calibration);
}

/// Prunes one model, a layer at a time.
class Run {
 public:
  Run(const Checkpoint& checkpoint, const ModelSpec& spec, const PruneOptions& options,
      const std::vector<std::vector<TokenId>>& windows, PrunedLayers& finished)
      : checkpoint_(checkpoint),
        weights_(checkpoint),
        options_(options),
        pruner_(find_pruner(options.method).make()),
        finished_(finished),
        pass_(spec, weights_, make_backend("cpu"), windows) {}

  PruneReport run() {
    PruneReport report;
    while (pass_.layer() < pass_.layers()) {
      std::optional<PrunedLayer> layer = finished_.find(pass_.layer());
      if (layer) {
        check_fits(*layer);
        ++report.resumed_layers;
      } else {
        layer = prune_layer();
        finished_.add(pass_.layer(), *layer);
      }
      report.matrices.insert(report.matrices.end(), layer->matrices.begin(), layer->matrices.end());
      tell(1, 2);
      if (pass_.layer() + 1 < pass_.layers()) {
        pass_.advance(layer->weights);
        tell(0, 1);
      } else {
        break;  // nobody looks at what the last layer puts out
      }
    }
    return report;
  }

 private:
  /// Throws Error when a layer that was found is not of this model.
  void check_fits(const PrunedLayer& layer) const {
    for (const auto& [name, tensor] : layer.weights) {
      const Tensor& original = checkpoint_.at(name);
      if (tensor.dtype() == original.dtype() && tensor.shape() == original.shape()) continue;
      fail("{}: of the run that was stopped is {} {}, the model's is {} {}: remove that run's folder", name,
           name_of(tensor.dtype()), to_string(tensor.shape()), name_of(original.dtype()), to_string(original.shape()));
    }
  }

  PrunedLayer prune_layer() {
    PrunedLayer layer;
    const auto groups = pass_.matrices_by_input();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      std::vector<std::string> wanted;
      std::copy_if(groups[i].begin(), groups[i].end(), std::back_inserter(wanted),
                   [this](const std::string& name) { return is_wanted(name, options_); });
      if (wanted.empty()) continue;
      std::optional<InputMoments> moments;
      if (!options_.text.empty()) moments = pass_.measure({wanted.front()}, layer.weights).at(wanted.front());
      for (const std::string& name : wanted) prune_matrix(name, moments ? &*moments : nullptr, layer);
      tell(static_cast<std::int64_t>(i + 1), 2 * std::ssize(groups));
    }
    return layer;
  }

  void prune_matrix(const std::string& name, const InputMoments* moments, PrunedLayer& layer) const {
    const Tensor& weight = checkpoint_.at(name);
    try {
      const Tensor pruned = pruner_->prune(weight, moments, options_.settings);
      const Tensor stored = to_tensor(to_matrix(pruned), weight.dtype());
      PrunedMatrix matrix{name, weight.shape()[0], weight.shape()[1], (to_matrix(stored).array() == 0).count(), {}, {}};
      if (moments != nullptr) {
        matrix.squared_error = output_error(weight, stored, *moments);
        matrix.squared_outputs = squared_outputs(weight, *moments);
      }
      layer.matrices.push_back(matrix);
      layer.weights.emplace(name, stored);
    } catch (const Error& error) {
      fail("{}: {}: {}", checkpoint_.source(), name, error.what());
    }
    checkpoint_.drop_pages();
  }

  /// Of the layer at hand `part` of `parts` are done.
  void tell(std::int64_t part, std::int64_t parts) const {
    constexpr std::int64_t kSteps = 1000;
    if (options_.progress) options_.progress(pass_.layer() * kSteps + part * kSteps / parts, pass_.layers() * kSteps);
  }

  const Checkpoint& checkpoint_;
  CheckpointWeights weights_;
  const PruneOptions& options_;
  std::unique_ptr<Pruner> pruner_;
  PrunedLayers& finished_;
  CalibrationPass pass_;
};

Json pruning_json(const Json& identity, const PruneReport& report) {
  Json json = identity;
  json["matrices"] = Json::array();
  for (const PrunedMatrix& matrix : report.matrices) json["matrices"].push_back(to_json(matrix));
  return json;
}

}  // namespace

PruneReport prune_model(const std::string& folder, const std::string& out, const PruneOptions& options) {
  if (find_pruner(options.method).calibrated && options.text.empty()) {
    fail("the method '{}' needs calibration text", options.method);
  }
  const Checkpoint checkpoint = Checkpoint::open(folder);
  refuse_quantized(checkpoint);
  const ModelSpec spec = spec_of(checkpoint);
  const std::string path = fresh_path(out);
  const auto windows = windows_of(checkpoint, spec, options);
  const Json identity = identity_of(fingerprint(spec.config, CheckpointWeights(checkpoint)), options);
  PrunedLayers finished(path + ".part", identity);
  PruneReport report = Run(checkpoint, spec, options, windows, finished).run();
  if (report.matrices.empty()) {
    finished.remove();
    fail("{}: no linear layer of a block matches --only {} and not --skip {}", checkpoint.source(),
         options.only.empty() ? "*" : fmt::format("{}", fmt::join(options.only, " ")), fmt::join(options.skip, " "));
  }
  NewFolder made(path);
  std::map<std::string, Tensor> replaced;
  for (std::int64_t layer = 0; layer < spec.config.n_layer; ++layer) {
    const auto pruned = finished.find(layer);
    MOLT_CHECK(pruned);
    replaced.insert(pruned->weights.begin(), pruned->weights.end());
  }
  copy_checkpoint(checkpoint, replaced, made.temporary());
  copy_companions(checkpoint.folder(), made);
  write_file(made.file("pruning.json"), pruning_json(identity, report).dump(2) + "\n");
  made.commit();
  finished.remove();
  return report;
}

}  // namespace molt
