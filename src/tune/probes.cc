#include "tune/probes.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/check.h"
#include "base/random.h"
#include "tune/scoring.h"

namespace molt {
namespace {

constexpr std::int64_t kContinuation = 64;
constexpr std::int64_t kPassage = 64;
constexpr std::int64_t kRecent = 12;  // a word met among so many last tokens is no test of memory
constexpr std::int64_t kShortContext = 20;
constexpr std::int64_t kCandidatesForEach = 6;  // how many are tried for each word that is taken

std::int64_t below(Random& random, std::int64_t n) {
  return static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(n));
}

/// Whether the last token of `text` is one that words() looks for, of `count` occurrences in all.
bool tests_memory(std::span<const TokenId> text, std::int64_t count, double most) {
  const TokenId word = text.back();
  const auto prompt = text.first(text.size() - 1);
  const auto old = prompt.first(prompt.size() - kRecent);
  const auto recent = prompt.last(kRecent);
  return static_cast<double>(count) < most && std::find(old.begin(), old.end(), word) != old.end() &&
         std::find(recent.begin(), recent.end(), word) == recent.end();
}

std::vector<Probe> memory_candidates(const Documents& documents, std::int64_t length, std::int64_t wanted,
                                     Random& random) {
  if (documents.empty()) return {};
  std::map<TokenId, std::int64_t> counts;
  double tokens = 0;
  for (const auto& document : documents) {
    for (const TokenId id : document) ++counts[id];
    tokens += static_cast<double>(document.size());
  }
  const double rare = std::max(3.0, tokens / 1200);
  std::vector<Probe> candidates;
  for (std::int64_t tries = 0; tries < 4000 * wanted && static_cast<std::int64_t>(candidates.size()) < wanted;
       ++tries) {
    const auto& document =
        documents[static_cast<std::size_t>(below(random, static_cast<std::int64_t>(documents.size())))];
    const auto size = static_cast<std::int64_t>(document.size());
    if (size < length + 2) continue;
    const std::int64_t begin = below(random, size - length);
    const auto text =
        std::span(document).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(length + 1));
    if (!tests_memory(text, counts[text.back()], rare)) continue;
    candidates.push_back({{text.begin(), text.end() - 1}, {text.back()}});
  }
  return candidates;
}

}  // namespace

Windows windows(const Documents& documents, std::int64_t length, std::int64_t count, std::uint64_t seed) {
  constexpr std::int64_t kMostOfOne = 8;
  Random random(seed);
  Windows result;
  for (std::int64_t k = 0; k < kMostOfOne && static_cast<std::int64_t>(result.size()) < count; ++k) {
    Windows round;
    for (const auto& document : documents) {
      if (static_cast<std::int64_t>(document.size()) < (k + 1) * length) continue;
      round.push_back(
          std::span(document).subspan(static_cast<std::size_t>(k * length), static_cast<std::size_t>(length)));
    }
    for (std::size_t i = round.size(); i > 1; --i) {
      std::swap(round[i - 1], round[static_cast<std::size_t>(below(random, static_cast<std::int64_t>(i)))]);
    }
    result.insert(result.end(), round.begin(), round.end());
  }
  if (static_cast<std::int64_t>(result.size()) > count) result.resize(static_cast<std::size_t>(count));
  return result;
}

ProbeSet continuations(const Documents& documents, std::int64_t length, std::int64_t count, std::uint64_t seed) {
  ProbeSet set{"continuation", {}};
  for (const auto& text : windows(documents, length + kContinuation, count, seed)) {
    const auto prompt = text.first(static_cast<std::size_t>(length));
    const auto next = text.subspan(static_cast<std::size_t>(length));
    set.probes.push_back({{prompt.begin(), prompt.end()}, {next.begin(), next.end()}});
  }
  return set;
}

ProbeSet recalls(const Documents& documents, std::int64_t length, std::span<const TokenId> separator,
                 std::int64_t count, std::uint64_t seed) {
  MOLT_CHECK(length > kPassage);
  Random random(seed + 1);
  ProbeSet set{"recall", {}};
  for (const auto& text : windows(documents, length, count, seed)) {
    const std::int64_t oldest = std::max<std::int64_t>(1, length * 3 / 10 - kPassage);
    const auto passage = text.subspan(static_cast<std::size_t>(below(random, oldest)), kPassage);
    Probe probe{{text.begin(), text.end()}, {passage.begin() + kPassage / 2, passage.end()}};
    probe.prompt.insert(probe.prompt.end(), separator.begin(), separator.end());
    probe.prompt.insert(probe.prompt.end(), passage.begin(), passage.begin() + kPassage / 2);
    set.probes.push_back(std::move(probe));
  }
  return set;
}

ProbeSet words(const ModelCore& model, const Documents& documents, std::int64_t count, std::uint64_t seed) {
  Random random(seed + 2);
  ProbeSet set{"word", {}};
  constexpr std::int64_t kLengths[] = {66, 74, 82, 92, 110};
  constexpr auto kParts = static_cast<std::int64_t>(std::size(kLengths));
  for (std::int64_t part = 0; part < kParts; ++part) {
    const std::int64_t length = kLengths[part];
    const std::int64_t share = count * (part + 1) / kParts - count * part / kParts;
    std::vector<Probe> candidates = memory_candidates(documents, length, share * kCandidatesForEach, random);
    std::vector<Probe> without_memory = candidates;
    for (Probe& probe : without_memory) probe.prompt.erase(probe.prompt.begin(), probe.prompt.end() - kShortContext);
    const std::vector<double> whole = first_nll(model, candidates);
    const std::vector<double> recent = first_nll(model, without_memory);
    std::vector<std::size_t> order(candidates.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return recent[a] - whole[a] > recent[b] - whole[b]; });
    for (std::size_t i = 0; i < order.size() && static_cast<std::int64_t>(i) < share; ++i) {
      set.probes.push_back(std::move(candidates[order[i]]));
    }
  }
  return set;
}

}  // namespace molt
