// prune_model(): a model folder in, the same model with weights removed out.
//
// The new folder has the layout of the old one: the same files with the same tensors in the same dtypes, so that
// whatever read the one reads the other; docs/pruning.md has what is added. It appears whole or not at all.
//
// Layer after layer is calibrated on what the pruned layers before it put out, and within a layer matrix after matrix.
// In memory are one block's weights, the residual stream of all calibration windows and one matrix's moments; the
// weights themselves are a mapped file. What is finished of a layer is kept in the folder OUT.part: after a kill the
// same call goes on there, with the same result to the last bit.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/calibration_text.h"
#include "compress/pruner.h"

namespace molt {

struct PruneOptions {
  std::string method = "mrp-sm";  // a registered Pruner
  PruneSettings settings;

  /// Of the linear layers of the blocks those whose name one of `only` matches (all, when it is empty) and none of
  /// `skip`: parts of names ("out_proj", "layers.3."), in which * and ? stand for any characters and any one.
  std::vector<std::string> only;
  std::vector<std::string> skip;

  /// What the model is watched reading, documents separated by "<|endoftext|>", and how it is cut. Without text a
  /// method that needs none still runs; errors of outputs are then not known.
  std::string text;
  CalibrationText calibration;
  std::string tokenizer;  // a tokenizer.json to use instead of the folder's own, or ""

  /// Called as work goes on, with how much of it is done and how much there is.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// What became of one matrix.
struct PrunedMatrix {
  std::string name;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t zeros = 0;
  std::optional<double> squared_error;    // of its outputs over the calibrated inputs, as it is stored
  std::optional<double> squared_outputs;  // and of these themselves

  std::int64_t weights() const { return rows * cols; }
};

struct PruneReport {
  std::vector<PrunedMatrix> matrices;  // in the order of the work
  std::int64_t resumed_layers = 0;     // that an earlier run had finished
};

/// Prunes the model in `folder` into the new folder `out`. Throws Error when the model cannot be read or is quantized,
/// a weight is not finite, text is missing or too short, nothing is to be pruned, `out` exists or cannot be written, or
/// OUT.part is in use or of a run with other settings. On all threads; the same result for any number of them.
PruneReport prune_model(const std::string& folder, const std::string& out, const PruneOptions& options);

}  // namespace molt
