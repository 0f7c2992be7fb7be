#include "memory_needs.h"

#include <vector>

#include "kernels/rehearsal_backend.h"
#include "model/model.h"
#include "molt/session.h"

namespace molt::cli {

MemoryNeeds memory_needs(const Model& rehearsal, std::int64_t batch, std::int64_t length, std::int64_t window) {
  const auto* const backend = dynamic_cast<const RehearsalBackend*>(&rehearsal.core()->backend());
  MOLT_CHECK(backend != nullptr);
  const CountedMemory& memory = backend->memory();
  MemoryNeeds needs;
  needs.weights = memory.held();
  std::vector<State> states;
  for (std::int64_t s = 0; s < batch; ++s) states.emplace_back(rehearsal);
  needs.states = memory.held() - needs.weights;

  memory.reset_peak();
  Session session(rehearsal, {.window = window, .progress = {}});
  const std::vector<TokenId> ids(static_cast<std::size_t>(length), 0);
  // The third is a step like the one before, which a backend may record.
  for (const std::size_t tokens : {ids.size(), std::size_t{1}, std::size_t{1}}) {
    std::vector<Sequence> sequences;
    for (State& state : states) sequences.push_back({&state, std::span(ids).first(tokens)});
    session.feed(sequences);
  }
  needs.scratch = memory.peak() - needs.weights - needs.states;
  needs.backend = backend->own_bytes();
  return needs;
}

}  // namespace molt::cli
