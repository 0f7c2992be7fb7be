#include "kernels/cuda/match_groups.h"

#include <algorithm>

#include "kernels/cuda/scratch.h"

namespace molt::cuda {
namespace {

constexpr std::int64_t kMostSimilarities = std::int64_t{16} << 20;  // at a time
constexpr std::int64_t kMostRowBytes = std::int64_t{384} << 20;     // of several pieces
constexpr double kMostPadding = 1.25;                               // of a product, to what it would be without

std::int64_t padded(std::int64_t rows) {
  return (rows + 7) / 8 * 8;
}

}  // namespace

MatchGroups::MatchGroups(std::span<const MatchSearch> searches, std::int64_t cols, DType precision)
    : width_(padded_inputs(cols, precision)), element_bytes_(size_of(precision)) {
  double needed = 0;  // similarities of the present group, if all pieces were of one size
  for (std::size_t s = 0; s < searches.size(); ++s) {
    const std::int64_t sources = std::ssize(searches[s].sources), targets = std::ssize(searches[s].targets);
    if (sources == 0 || targets == 0) continue;
    const std::int64_t at_once =
        std::clamp<std::int64_t>(kMostSimilarities / padded(targets) / 8 * 8, 8, padded(sources));
    for (std::int64_t begin = 0; begin < sources; begin += at_once) {
      const std::int64_t count = std::min(at_once, sources - begin);
      const double own = static_cast<double>(padded(count)) * static_cast<double>(padded(targets));
      const std::int64_t most_sources = std::max(groups_.empty() ? 0 : groups_.back().sources, padded(count));
      const std::int64_t most_targets = std::max(groups_.empty() ? 0 : groups_.back().targets, padded(targets));
      if (groups_.empty() || !fits(groups_.back(), most_sources, most_targets, needed + own)) {
        groups_.push_back({{}, padded(count), padded(targets)});
        needed = 0;
      } else {
        groups_.back().sources = most_sources;
        groups_.back().targets = most_targets;
      }
      groups_.back().pieces.push_back({s, begin, count});
      needed += own;
    }
  }
  for (const MatchGroup& group : groups_) {
    found_ += group.found();
    rows_ = std::max(rows_, group.rows());
    similarities_ = std::max(similarities_, group.found() * group.targets);
  }
}

/// Whether a group may take one piece more, all padded to this, of which `needed` similarities are wanted.
bool MatchGroups::fits(const MatchGroup& group, std::int64_t sources, std::int64_t targets, double needed) const {
  const std::int64_t count = group.count() + 1;
  if (count * (sources + targets) * width_ * element_bytes_ > kMostRowBytes) return false;
  const std::int64_t similarities = count * sources * targets;
  return similarities <= kMostSimilarities && static_cast<double>(similarities) <= kMostPadding * needed;
}

std::int64_t MatchGroups::bytes() const {
  return aligned_scratch(8 * found_) + aligned_scratch(rows_ * width_ * element_bytes_) + aligned_scratch(4 * rows_) +
         aligned_scratch(4 * similarities_);
}

}  // namespace molt::cuda
