// Probes: prompts cut from calibration text, each with the tokens that follow it, by which schedules are judged.
//
// Three kinds, because no one of them shows all that a reduction can lose: what follows a long prompt; a passage from
// its oldest part, quoted at its end; and single words that only a whole short prompt lets one guess.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "molt/types.h"

namespace molt {

struct Probe {
  std::vector<TokenId> prompt;
  std::vector<TokenId> next;  // at least one; all but the last are fed, dense, after the prompt
};

struct ProbeSet {
  std::string name;  // "continuation", "recall", "word"
  std::vector<Probe> probes;
};

/// A text in documents, each with the begin-of-text token in front.
using Documents = std::vector<std::vector<TokenId>>;

using Windows = std::vector<std::span<const TokenId>>;

/// Windows of `length` tokens that do not overlap, at most `count`: the documents' first ones, then their second ones,
/// and so on (eight of one document at most), in an order that `seed` shuffles. They view
/// `documents`, which must outlive them.
Windows windows(const Documents& documents, std::int64_t length, std::int64_t count, std::uint64_t seed);

/// Prompts of `length` tokens and the 64 tokens behind them.
ProbeSet continuations(const Documents& documents, std::int64_t length, std::int64_t count, std::uint64_t seed);

/// Documents of `length` tokens, `separator`, and the first half of 64 tokens copied from their oldest 30%: the second
/// half follows.
ProbeSet recalls(const Documents& documents, std::int64_t length, std::span<const TokenId> separator,
                 std::int64_t count, std::uint64_t seed);

/// Prompts of some 60 to 110 tokens and the one token behind: rare, met before in the prompt but not lately, and
/// guessed better by `model` from the whole prompt than from its last 20 tokens. `count` in all.
ProbeSet words(const ModelCore& model, const Documents& documents, std::int64_t count, std::uint64_t seed);

}  // namespace molt
