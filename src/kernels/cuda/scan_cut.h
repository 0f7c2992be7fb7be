// ScanCut: how the selective scan over many rows (row_scan.h) divides them among the device's multiprocessors.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace molt::cuda {

/// States a channel, at the most.
constexpr std::int64_t kMostScanStates = 16;

/// How a batch's sequences are cut in time: a long one that leaves the device idle otherwise into chunks, whose ends
/// are found first.
struct ScanCut {
  std::int64_t chunk_rows;
  std::int64_t chunks;  // of the longest sequence; 1: nothing is cut
  /// That there is room for: that of chunk c of the sequence which begins at row t is t / chunk_rows + c.
  std::int64_t ends;

  ScanCut(Offsets offsets, std::int64_t channels, int processors);

  /// Of scratch memory.
  std::int64_t bytes(std::int64_t channels) const;
};

}  // namespace molt::cuda
