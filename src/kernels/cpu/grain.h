// How much work one chunk of a parallel_for gets.
#pragma once

#include <algorithm>
#include <cstdint>

namespace molt {

/// The grain for items of `cost` vector-lane operations each (a load, an addition, a store of one float count one; an
/// exponential about ten). Chunks are some microseconds of one core's work: a hand-over between threads costs about
/// one.
inline std::int64_t grain_for(std::int64_t cost) {
  constexpr std::int64_t kChunkCost = 100'000;
  return std::max<std::int64_t>(1, kChunkCost / std::max<std::int64_t>(1, cost));
}

}  // namespace molt
