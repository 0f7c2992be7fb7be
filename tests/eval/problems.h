// Small models and prompts that tests of evaluation share.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "eval/scoring.h"
#include "tests/support/paths.h"

namespace molt::eval::testing_support {

inline Model tiny_model(const std::string& name = "mamba2-tiny") {
  return Model::load(molt::testing_support::fixture("tiny/" + name), {.weights = WeightType::f32});
}

inline std::vector<TokenId> random_ids(const Model& model, std::size_t length, std::uint64_t seed) {
  Random random(seed);
  std::vector<TokenId> ids(length);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model.vocab_size()));
  return ids;
}

/// Contexts of 1 to 120 tokens with 1 to 3 continuations of 1 to 9.
inline std::vector<Prompt> random_prompts(const Model& model, std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<Prompt> prompts;
  for (std::size_t p = 0; p < count; ++p) {
    Prompt& prompt = prompts.emplace_back(Prompt{random_ids(model, 1 + random.next() % 120, random.next()), {}});
    const std::size_t continuations = 1 + random.next() % 3;
    for (std::size_t c = 0; c < continuations; ++c) {
      prompt.continuations.push_back(random_ids(model, 1 + random.next() % 9, random.next()));
    }
  }
  return prompts;
}

inline std::vector<const Prompt*> pointers_to(const std::vector<Prompt>& prompts) {
  std::vector<const Prompt*> pointers;
  for (const Prompt& prompt : prompts) pointers.push_back(&prompt);
  return pointers;
}

}  // namespace molt::eval::testing_support
