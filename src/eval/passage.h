// A passage read under every setting, for a look at what each does to its tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/evaluate.h"

namespace molt::eval {

/// How a setting read a passage.
struct PassageReading {
  std::string setting;
  ReductionRecord record;          // the dense model's has no tokens
  std::int64_t scratch_bytes = 0;  // working memory that reading it took
};

/// A passage to show: of all contexts the longest up to `length` tokens, or else the shortest; the first of equals.
/// Empty where there are no items.
std::vector<TokenId> choose_passage(const std::vector<TaskItems>& tasks, std::size_t length);

/// Reads `passage`, not empty, with the dense model and then under every setting.
std::vector<PassageReading> read_passage(const Model& model, std::span<const TokenId> passage,
                                         const std::vector<Setting>& settings, std::int64_t window);

}  // namespace molt::eval
