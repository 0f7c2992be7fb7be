// observe(): runs a text through all layers and shows each block's input and output to a function.
#pragma once

#include <span>

#include "model/model.h"
#include "molt/model.h"
#include "molt/state.h"

namespace molt::testing_support {

inline void observe(const Model& model, std::span<const TokenId> ids, const ModelCore::Observer& observer) {
  Arena arena;
  const State state(model);
  float* const states[] = {state.data()};
  const std::int64_t offsets[] = {0, static_cast<std::int64_t>(ids.size())};
  model.core()->forward({ids, offsets, states}, arena, &observer);
}

}  // namespace molt::testing_support
