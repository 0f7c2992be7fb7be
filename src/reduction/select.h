// Choosing tokens: the orderings that all methods share, and the plans that are made of a choice.
//
// All orderings are total, so that results never depend on the algorithm: equal scores, lower token first; NaN counts
// as the least. Selections take O(N), orderings of what was selected O(k log k). Free functions without state.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "molt/reducer.h"

namespace molt {

/// Whether a < b, NaN being less than all numbers.
template <class Score>
bool is_less(Score a, Score b) {
  if (std::isnan(b)) return false;
  return std::isnan(a) || a < b;
}

/// The tokens of a site that may leave, ascending.
inline std::vector<std::int64_t> unprotected_tokens(const Site& site) {
  const std::span<const std::uint8_t> is_protected = site.is_protected();
  std::vector<std::int64_t> tokens;
  tokens.reserve(is_protected.size());
  for (std::size_t t = 0; t < is_protected.size(); ++t) {
    if (is_protected[t] == 0) tokens.push_back(static_cast<std::int64_t>(t));
  }
  return tokens;
}

/// The `count` of `tokens` (ascending) with the least scores, or all of them if they are fewer; ascending. `scores`:
/// one for each token of the site.
template <class Score>
std::vector<std::int64_t> least(std::span<const Score> scores, std::vector<std::int64_t> tokens, std::int64_t count) {
  if (count <= 0) return {};
  if (count >= static_cast<std::int64_t>(tokens.size())) return tokens;
  const auto before = [scores](std::int64_t a, std::int64_t b) {
    const Score score_a = scores[static_cast<std::size_t>(a)];
    const Score score_b = scores[static_cast<std::size_t>(b)];
    if (is_less(score_a, score_b)) return true;
    return !is_less(score_b, score_a) && a < b;
  };
  std::vector<std::int64_t> partly = tokens;
  const auto next = partly.begin() + count;
  std::nth_element(partly.begin(), next, partly.end(), before);
  std::erase_if(tokens, [&](std::int64_t token) { return !before(token, *next); });
  return tokens;
}

/// Those of `tokens` (ascending) that are not in `taken` (ascending).
inline std::vector<std::int64_t> without(std::span<const std::int64_t> tokens, std::span<const std::int64_t> taken) {
  std::vector<std::int64_t> rest;
  std::set_difference(tokens.begin(), tokens.end(), taken.begin(), taken.end(), std::back_inserter(rest));
  return rest;
}

/// All tokens of a site that are not in `taken` (ascending).
inline std::vector<std::int64_t> all_but(const Site& site, std::span<const std::int64_t> taken) {
  const std::int64_t tokens = site.tokens();
  std::vector<std::int64_t> rest;
  rest.reserve(static_cast<std::size_t>(tokens));
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (!taken.empty() && taken.front() == t) {
      taken = taken.subspan(1);
    } else {
      rest.push_back(t);
    }
  }
  return rest;
}

/// An edge from a token to the one into which it may be merged.
struct Edge {
  std::int64_t source;
  std::int64_t target;  // -1: there is none
  float similarity;
};

/// The edges of `sources` (ascending) to their matches.
inline std::vector<Edge> edges_of(std::span<const std::int64_t> sources, std::span<const Site::Match> matches) {
  std::vector<Edge> edges;
  for (std::size_t i = 0; i < sources.size(); ++i)
    edges.push_back({sources[i], matches[i].target, matches[i].similarity});
  return edges;
}

/// The `count` most similar edges, most similar first; those without a target come last of all.
inline std::vector<Edge> most_similar(std::vector<Edge> edges, std::int64_t count) {
  const auto before = [](const Edge& a, const Edge& b) {
    if ((a.target < 0) != (b.target < 0)) return b.target < 0;
    if (is_less(b.similarity, a.similarity)) return true;
    return !is_less(a.similarity, b.similarity) && a.source < b.source;
  };
  const auto kept = std::clamp<std::int64_t>(count, 0, static_cast<std::int64_t>(edges.size()));
  if (kept < static_cast<std::int64_t>(edges.size())) {
    std::nth_element(edges.begin(), edges.begin() + kept, edges.end(), before);
    edges.resize(static_cast<std::size_t>(kept));
  }
  std::sort(edges.begin(), edges.end(), before);
  return edges;
}

/// The `count` oldest tokens of the prompt that may leave, as far as they are at this site. While the prompt's length
/// is unknown: of the window. `protect_first` and `protect_last` are those of the prompt; `count` is the prompt's (or
/// the window's), tokens that have left before included if the length is known.
inline std::vector<std::int64_t> oldest(const Site& site, std::int64_t protect_first, std::int64_t count) {
  std::vector<std::int64_t> tokens = unprotected_tokens(site);
  if (!site.place().length) {
    if (count < static_cast<std::int64_t>(tokens.size())) {
      tokens.resize(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
    }
    return tokens;
  }
  const auto stays = [&](std::int64_t t) {
    return site.positions()[static_cast<std::size_t>(t)] >= protect_first + count;
  };
  tokens.erase(std::find_if(tokens.begin(), tokens.end(), stays), tokens.end());
  return tokens;
}

/// The plan that prunes `tokens` (ascending) on both branches.
inline Plan prune(std::span<const std::int64_t> tokens, bool carry) {
  Plan plan;
  plan.carry = carry;
  for (const std::int64_t token : tokens) plan.departures.push_back({.token = token});
  return plan;
}

/// Puts a plan's departures in the order that it must have.
inline void sort_departures(Plan& plan) {
  std::sort(plan.departures.begin(), plan.departures.end(),
            [](const Departure& a, const Departure& b) { return a.token < b.token; });
}

}  // namespace molt
