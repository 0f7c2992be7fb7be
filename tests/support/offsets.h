// Bounds of the sequences of a ragged batch.
#pragma once

#include <cstdint>
#include <vector>

namespace molt::testing_support {

/// Lengths 3, 0, 5 as offsets 0, 3, 3, 8.
inline std::vector<std::int64_t> offsets_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}

}  // namespace molt::testing_support
