// How much memory a run takes, found out by going through it with ops that do nothing.
#pragma once

#include <cstdint>

#include "molt/model.h"

namespace molt::cli {

/// Bytes of the memory in which a backend works.
struct MemoryNeeds {
  std::int64_t weights = 0;
  std::int64_t states = 0;
  std::int64_t scratch = 0;  // activations of a pass, logits
  std::int64_t backend = 0;  // what its ops need beside their arguments, and what it takes in any case

  std::int64_t total() const { return weights + states + scratch + backend; }
};

/// Of `batch` sequences that read `length` tokens each, `window` at a time, and generate. `rehearsal`: the model,
/// loaded on a backend "rehearse:NAME".
MemoryNeeds memory_needs(const Model& rehearsal, std::int64_t batch, std::int64_t length, std::int64_t window);

}  // namespace molt::cli
