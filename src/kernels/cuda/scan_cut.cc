#include "kernels/cuda/scan_cut.h"

#include <algorithm>

namespace molt::cuda {
namespace {

constexpr std::int64_t kLeastChunkRows = 64;
constexpr std::int64_t kUnit = 16;         // rows
constexpr std::int64_t kWarpsToFill = 20;  // of a multiprocessor
constexpr std::int64_t kLeastChunks = 5;   // fewer do not pay: all but the first and the last are gone through twice
constexpr std::int64_t kWarpChannels = 32;

}  // namespace

ScanCut::ScanCut(Offsets offsets, std::int64_t channels, int processors) {
  std::int64_t longest = 0;
  for (std::size_t s = 1; s < offsets.size(); ++s) longest = std::max(longest, offsets[s] - offsets[s - 1]);
  const std::int64_t warps = (channels + kWarpChannels - 1) / kWarpChannels, room = processors * kWarpsToFill;
  const std::int64_t fair = (offsets.back() * warps + room - 1) / room;
  chunk_rows = std::max(kLeastChunkRows, (fair + kUnit - 1) / kUnit * kUnit);
  chunks = (longest + chunk_rows - 1) / chunk_rows;
  ends = offsets.back() / chunk_rows;
  if (chunks >= kLeastChunks) return;
  ends = 0;
  chunk_rows = std::max<std::int64_t>(1, longest);
  chunks = 1;
}

std::int64_t ScanCut::bytes(std::int64_t channels) const {
  return ends * (kMostScanStates + 1) * channels * std::int64_t{sizeof(float)};
}

}  // namespace molt::cuda
