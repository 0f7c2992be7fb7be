// PrunedLayers: the finished layers of a pruning run, kept on disk so that a run that was killed goes on where it was.
//
// A folder with a file that says what the run is, run.json, and one safetensors file a layer, each written whole or not
// at all. One process at a time: the folder is locked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compress/calibration_pass.h"
#include "compress/prune_model.h"
#include "io/json_file.h"

namespace molt {

/// A layer that is done: its matrices as they are to be stored, and what became of them.
struct PrunedLayer {
  Replacements weights;
  std::vector<PrunedMatrix> matrices;
};

class PrunedLayers {
 public:
  /// Begins the run that `identity` describes in `folder`, or goes on with it. Throws Error when another process is at
  /// it, the folder is of a run with another identity, or cannot be written.
  PrunedLayers(std::string folder, const Json& identity);
  ~PrunedLayers();
  PrunedLayers(const PrunedLayers&) = delete;
  PrunedLayers& operator=(const PrunedLayers&) = delete;

  /// What is there of a layer; its weights are mapped. Throws Error when its file is damaged.
  std::optional<PrunedLayer> find(std::int64_t layer) const;

  void add(std::int64_t layer, const PrunedLayer& pruned);

  /// Removes the folder.
  void remove();

 private:
  std::string file(std::int64_t layer) const;

  std::string folder_;
  int lock_ = -1;
};

Json to_json(const PrunedMatrix& matrix);

}  // namespace molt
