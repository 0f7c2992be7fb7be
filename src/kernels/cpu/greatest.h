// greatest(): the greatest of a row of floats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace molt {

/// The greatest of x [n], which passes over NaN; -infinity where there is none.
inline float greatest(const float* x, std::int64_t n) {
  constexpr std::int64_t kLanes = 16;  // side by side, so that the compiler makes them a vector
  float largest[kLanes];
  std::fill_n(largest, kLanes, -std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) largest[k] = x[i + k] > largest[k] ? x[i + k] : largest[k];
  }
  for (; i < n; ++i) largest[0] = x[i] > largest[0] ? x[i] : largest[0];
  return *std::max_element(largest, largest + kLanes);
}

}  // namespace molt
