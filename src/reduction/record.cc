// What a reduction did, as users see it.
#include <algorithm>

#include "molt/reduction.h"

namespace molt {

std::string_view name_of(TokenFate::Kind kind) {
  switch (kind) {
    case TokenFate::Kind::pruned: return "pruned";
    case TokenFate::Kind::merged: return "merged";
    case TokenFate::Kind::bypass: return "bypass";
    case TokenFate::Kind::write_only: return "write-only";
  }
  return "unknown";
}

void ReductionRecord::sort() {
  std::stable_sort(fates.begin(), fates.end(), [](const TokenFate& a, const TokenFate& b) {
    return a.site != b.site ? a.site < b.site : a.position < b.position;
  });
}

std::vector<std::int64_t> ReductionRecord::survivors(std::int64_t site) const {
  std::vector<std::uint8_t> in_stream(static_cast<std::size_t>(tokens), 1);
  for (const TokenFate& fate : fates) {  // in order of sites: a token that came back may leave again
    if (fate.site > site) break;
    const bool back = fate.return_at != -1 && fate.return_at <= site;
    in_stream[static_cast<std::size_t>(fate.position)] = static_cast<std::uint8_t>(back);
  }
  std::vector<std::int64_t> positions;
  for (std::int64_t position = 0; position < tokens; ++position) {
    if (in_stream[static_cast<std::size_t>(position)] != 0) positions.push_back(position);
  }
  return positions;
}

}  // namespace molt
