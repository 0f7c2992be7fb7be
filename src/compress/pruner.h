// Pruner: a method that removes weights of a matrix. Adding one is adding a file that registers it:
//
//   namespace { const Registration<PrunerEntry> registration{"wanda", {"one line for --help", calibrated, &make}}; }
//
// A method sees one matrix at a time: its weights, how many of them are to go and, if it is calibrated, the second
// moments of the inputs that the matrix met on calibration text. It knows no model, no file and no other matrix.
//
// Thread-safety: prune() is const and may run on several threads; it uses parallel_for itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/registry.h"
#include "compress/moments.h"
#include "tensor/tensor.h"

namespace molt {

/// How many weights are to go: a share of all, or all but `keep` of every `of` consecutive columns of a row.
struct Sparsity {
  double share = 0.5;
  std::int64_t keep = 0;
  std::int64_t of = 0;  // 0: no pattern

  bool pattern() const { return of != 0; }

  /// Of `count` weights without a pattern.
  std::int64_t removed(std::int64_t count) const;

  /// Of a group of `size` columns, size <= of: the last group of a row may be narrower, and then keeps `keep`, too.
  std::int64_t removed_of_group(std::int64_t size) const { return size > keep ? size - keep : 0; }

  /// "50%", "2:4".
  std::string text() const;
};

/// From "2:4". Throws Error for what is no pattern, or leaves nothing or everything.
Sparsity parse_pattern(const std::string& text);

struct PruneSettings {
  Sparsity sparsity;
  double damping = 0.01;     // times the mean of H's diagonal, added to its diagonal
  std::int64_t block = 128;  // columns whose removals are compensated at once; 0: all of a row
  int refine = 0;            // most swaps of a removed weight for a kept one, a row and block
  bool polish = true;        // whether rows that were compensated in blocks go on to their optimum (polish.h)
};

class Pruner {
 public:
  virtual ~Pruner() = default;

  /// `weight` [N, K], of any floating point dtype, in float64 with weights removed, that is, exactly 0, and the others
  /// perhaps changed. A weight that is 0 already stays so and counts among the removed. `inputs` [K, K]: null
  /// unless the method is calibrated. Throws Error when a weight or a moment is not finite.
  virtual Tensor prune(const Tensor& weight, const InputMoments* inputs, const PruneSettings& settings) const = 0;
};

/// A method, under the name that --method takes.
struct PrunerEntry {
  std::string summary;  // one line for --help
  bool calibrated;      // whether it needs calibration text
  std::unique_ptr<Pruner> (*make)();
};

/// The method of that name. Throws Error that lists those there are.
const PrunerEntry& find_pruner(const std::string& name);

}  // namespace molt
