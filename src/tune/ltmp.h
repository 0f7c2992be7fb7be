// Calibration of ltmp: thresholds by which the mean cut, over windows of text, is the one asked for.
//
// The shares to be removed are those of a count-based method at the same sites (solve_schedule), so both spend alike on
// average. Half of a site's share is pruned; of what remains, which ltmp prunes first, so much is merged that the
// other half goes, too (as no more than every second token can be merged, shares above 2/3 are pruned the more). Site
// by site the windows are run as the thresholds of earlier sites leave them, and a threshold becomes the quantile, over
// the tokens of all windows, that removes the share; so windows of easy tokens lose more than hard ones.
//
// Used by one thread; takes some five dense runs over the windows, in constant memory but for a float a token.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "reduction/ltmp.h"
#include "tune/tune.h"

namespace molt {

/// Thresholds for `sites` (ascending). `windows` should be of one length, that of the prompts to come. Throws Error
/// when the sites cannot cut as much.
LtmpThresholds calibrate_ltmp(const ModelCore& model, const std::vector<std::int64_t>& sites, const Windows& windows,
                              double flops, const std::function<void(std::int64_t done, std::int64_t total)>& progress);

/// The cuts of windows that are reduced one by one.
struct Cuts {
  std::int64_t windows = 0;
  double mean = 0;
  double least = 0;
  double most = 0;
};
Cuts measure_cuts(const ModelCore& model, const LtmpThresholds& thresholds, const Windows& windows);

struct TunedLtmp {
  LtmpThresholds thresholds;
  Cuts calibration;  // on the text of the thresholds
  Cuts apart;        // on text held apart
  std::vector<Judged> judged;
};

/// Calibrates ltmp at the paper's sites. Throws Error when the text is too short, or the cut cannot be had.
TunedLtmp tune_ltmp(const Model& model, const std::string& text, const TuneOptions& options);

/// Writes a spec for --reduce to `path` (JSON). Throws Error.
void save_ltmp(const LtmpThresholds& thresholds, double flops, const std::string& path);

}  // namespace molt
