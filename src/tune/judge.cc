#include "tune/judge.h"

#include <optional>

#include "base/fail.h"
#include "molt/reduction.h"
#include "reduction/core.h"

namespace molt {
namespace {

/// The method at a cut; nothing where its sites, on this model, cannot cut as much.
std::optional<Reduction> at_cut(const Model& model, const char* method, double cut) {
  try {
    return Reduction::parse(model, fmt::format("{}:flops={}", method, cut));
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<Judged> judge(const Model& model, const ProbeSet& probes, const Reduction::Core& reduction, double cut) {
  if (probes.probes.empty()) return {};
  Trial trial(*model.core(), probes);
  std::vector<Judged> judged{{probes.name, "tuned", trial.evaluate(reduction)}};
  for (const char* method : {"truncate", "bypass", "utr"}) {
    const std::optional<Reduction> other = at_cut(model, method, cut);
    if (other) judged.push_back({probes.name, method, trial.evaluate(other->core())});
  }
  return judged;
}

}  // namespace molt
