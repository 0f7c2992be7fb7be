#include "kernels/backend.h"

#include "base/fail.h"
#include "base/registry.h"
#include "kernels/rehearsal_backend.h"
#include "kernels/staged_backend.h"
#include "kernels/timed_backend.h"

namespace molt {

void Backend::best_matches(Matrix<const float> x, std::span<const MatchSearch> searches, bool later_only) const {
  for (const MatchSearch& search : searches) {
    best_match(x.row_range(search.first, x.rows), search.sources, search.targets, later_only, search.match,
               search.similarity);
  }
}

std::shared_ptr<const Backend> make_backend(std::string_view name) {
  constexpr std::string_view kTimed = "timed:";
  constexpr std::string_view kStaged = "staged:";
  const bool timed = name.starts_with(kTimed);
  if (timed) name.remove_prefix(kTimed.size());
  constexpr std::string_view kAligned = "aligned:";  // staged, the other way
  const bool aligned = name.starts_with(kAligned);
  if (aligned) name.remove_prefix(kAligned.size());
  const bool staged = !aligned && name.starts_with(kStaged);
  if (staged) name.remove_prefix(kStaged.size());
  constexpr std::string_view kRehearse = "rehearse:";
  if (!timed && !staged && !aligned && name.starts_with(kRehearse)) {
    name.remove_prefix(kRehearse.size());
    const auto& rehearsals = Registry<RehearsalFactory>::instance();
    const RehearsalFactory* rehearse = rehearsals.find(name);
    if (rehearse == nullptr) {
      fail("backend '{}' cannot be rehearsed; those that can: {}", name, fmt::join(rehearsals.names(), ", "));
    }
    return (*rehearse)();
  }
  const auto& registry = Registry<BackendFactory>::instance();
  const BackendFactory* make = registry.find(name);
  if (make == nullptr) fail("unknown backend '{}'; known: {}", name, fmt::join(registry.names(), ", "));
  std::shared_ptr<const Backend> backend = (*make)();
  if (staged || aligned) backend = std::make_shared<StagedBackend>(std::move(backend), host_memory(), aligned);
  return timed ? std::make_shared<TimedBackend>(std::move(backend)) : backend;
}

}  // namespace molt
