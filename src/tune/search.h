// The search for surrogate schedules: which tokens, by age, may do without which blocks.
//
// All tiers start in full. A cell is one block of one tier; leaving it out saves the tier's share of a block, and costs
// what the divergence from the dense model grows by. Stage by stage towards the cut: every cell is tried alone, on top
// of what was decided so far (skipped; and where that costs much, only writing); the cheapest for what they save are
// taken until the stage's cut is reached; the next stage measures anew, on fresh text, which takes care of how cells
// act on each other. A trial changes nothing before its block, so only the blocks from there on run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "reduction/surrogate.h"
#include "tune/map_fitter.h"
#include "tune/scoring.h"

namespace molt {

/// A class of prompt lengths: how it is cut into tiers, and by what it is judged.
struct PromptClass {
  std::string name;                             // "short", "long"
  std::optional<std::int64_t> up_to;            // tokens
  std::vector<double> tiers;                    // where each ends, as a share of the prompt
  std::vector<std::vector<ProbeSet>> by_stage;  // the sets that a stage is judged by, each counting the same
};

/// What leaving out a cell costs, alone, from the dense model: in shares of what truncation at the wanted cut costs.
struct Sensitivity {
  std::size_t tier;
  std::int64_t layer;
  double skipped;
};

struct SearchResult {
  SurrogateRule rule;
  std::map<WriteMapKey, WriteMapTensors> maps;  // with the rule's number
  std::vector<Sensitivity> sensitivities;
  double cut = 0;  // by count, of prompts in this class
};

struct SearchOptions {
  double flops = 0.3;
  double least_horizon = 128;  // steps a head's state must last for it to be worth writing
  std::int64_t rule = 0;       // the rule's number in its schedule
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// Searches a schedule for one class. `fitter` has seen text of its lengths. Throws Error when the cut cannot be
/// reached.
SearchResult search(const ModelCore& model, const PromptClass& prompts, MapFitter& fitter,
                    const SearchOptions& options);

}  // namespace molt
