// judge(): holds a reduction that was found against the usual ones, at its own cut. Used by one thread.
#pragma once

#include <string>
#include <vector>

#include "molt/model.h"
#include "tune/scoring.h"

namespace molt {

/// One line of the comparison.
struct Judged {
  std::string set;     // the probes
  std::string method;  // "tuned", or the other's name
  Loss loss;
};

/// What `reduction` loses on `probes`, and what truncation, bypass and utr lose at the same cut; those that cannot cut
/// as much are left out. Nothing for an empty set.
std::vector<Judged> judge(const Model& model, const ProbeSet& probes, const Reduction::Core& reduction, double cut);

}  // namespace molt
