// ltmp's thresholds, and what they are held against. src/reduction/methods/ltmp.cc says what they mean.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "molt/reducer.h"
#include "reduction/select.h"

namespace molt {

struct LtmpThresholds {
  static constexpr double kPruneNone = -1e30;  // below every importance
  static constexpr double kMergeNone = 2;      // above every cosine

  std::vector<std::int64_t> sites;  // ascending
  std::vector<double> prune_below;  // one a site
  std::vector<double> merge_above;
};

/// The importance by which ltmp prunes, one a token of the site.
std::vector<float> ltmp_importance(const Site& site);

/// The merges among which ltmp chooses by similarity, of the tokens that pruning left (`remaining`, ascending): of
/// those every second one is a target; the others, if they may leave, are sources.
std::vector<Edge> ltmp_merges(const Site& site, std::span<const std::int64_t> remaining);

std::shared_ptr<const Reducer> make_ltmp(LtmpThresholds thresholds, bool carry);

}  // namespace molt
