// Scores as JSON, as journals keep and reports give them.
#pragma once

#include "eval/scoring.h"
#include "io/json_file.h"

namespace molt::eval {

/// {"logprobs": [...], "greedy": ...}, with "kl" if it is known. Log-probabilities come back bit for bit.
Json to_json(const Score& score);

/// Throws Json::exception for anything else.
Score score_of(const Json& json);

}  // namespace molt::eval
