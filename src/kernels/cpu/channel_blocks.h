// for_channel_blocks: the way that ops along a sequence, with channels independent of each other, use threads.
#pragma once

#include <algorithm>

#include "base/parallel.h"
#include "kernels/backend.h"
#include "kernels/cpu/grain.h"

namespace molt {

/// Calls body(s, begin, end) on blocks of channels [begin, end) of every sequence s that is not empty, from several
/// threads. `cost` is that of one channel of one row, in the measure of grain_for(). How blocks are cut depends on the
/// batch, so a body must compute each channel on its own.
template <class Body>
void for_channel_blocks(std::int64_t channels, Offsets offsets, std::int64_t cost, Body body) {
  constexpr std::int64_t kBlock = 64;  // whole vectors of any instruction set, whole cache lines
  const std::int64_t blocks = (channels + kBlock - 1) / kBlock;
  const auto sequences = static_cast<std::int64_t>(offsets.size()) - 1;
  const std::int64_t mean_rows = sequences == 0 ? 0 : (offsets.back() + sequences - 1) / sequences;
  const std::int64_t grain = grain_for(cost * kBlock * mean_rows);
  parallel_for(sequences * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    // Neighbouring blocks of one sequence go to the body as one.
    while (begin < end) {
      const std::int64_t s = begin / blocks;
      const std::int64_t first = begin - s * blocks;
      const std::int64_t count = std::min(end - begin, blocks - first);
      const auto sequence = static_cast<std::size_t>(s);
      if (offsets[sequence] < offsets[sequence + 1]) {
        body(sequence, first * kBlock, std::min(channels, (first + count) * kBlock));
      }
      begin += count;
    }
  });
}

}  // namespace molt
