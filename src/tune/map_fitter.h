// MapFitter: fits write maps by ridge regression on a dense run over calibration text.
//
// With v_l the residual stream before block l, scaled to a root mean square of 1, and w_l the weight of that block's
// norm, the block reads u_l = v_l * w_l. A map from a to l predicts u_l = M v_a + b; M and b minimise the squared error
// plus lambda * rows * |M|^2 (b is not penalised), and are then multiplied into the rows of the block's in_proj that
// feed its state. All it needs of the text are the products v_a' v_l, summed over tokens, and the means of v_l.
//
// Used by one thread. Memory: d_model^2 doubles for each pair of layers at most `reach` apart.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "model/model.h"
#include "reduction/write_maps.h"

namespace molt {

class MapFitter {
 public:
  /// Maps from block a to block l with l - a <= reach can be fitted.
  MapFitter(const ModelCore& model, std::int64_t reach);
  ~MapFitter();

  /// The reach that `bytes` of memory allow on a model, at least 1.
  static std::int64_t reach_within(const ModelCore& model, double bytes);

  /// Adds the dense run over one window of text, of at least two tokens; its first one does not count: of most windows
  /// it is the one on which every text begins, unlike all others.
  void add(std::span<const TokenId> window);

  /// Steps that a head's state lasts, 1 / mean(dt |A|) over the text so far: [layers][heads]; empty for blocks without
  /// heads.
  const std::vector<std::vector<double>>& horizons() const { return horizons_; }

  std::int64_t reach() const { return reach_; }

  /// The map of `key`: key.from == key.to gives the exact one. `heads`: those whose x it writes.
  WriteMapTensors fit(const WriteMapKey& key, const std::vector<std::int64_t>& heads);

 private:
  struct Sums;

  const ModelCore& model_;
  std::int64_t reach_;
  std::unique_ptr<Sums> sums_;
  std::vector<std::vector<double>> horizons_;
};

}  // namespace molt
