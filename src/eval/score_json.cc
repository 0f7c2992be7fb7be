#include "eval/score_json.h"

#include <fmt/format.h>

#include <string>

namespace molt::eval {
namespace {

/// The double that prints as shortly as `value` does.
double shortest(float value) {
  return std::stod(fmt::format("{}", value));
}

}  // namespace

Json to_json(const Score& score) {
  Json logprobs = Json::array();
  for (const float logprob : score.logprobs) logprobs.push_back(shortest(logprob));
  Json json{{"logprobs", std::move(logprobs)}, {"greedy", score.greedy}};
  if (score.kl) json["kl"] = *score.kl;
  return json;
}

Score score_of(const Json& json) {
  Score score{json.at("logprobs").get<std::vector<float>>(), json.at("greedy").get<bool>(), std::nullopt};
  if (json.contains("kl")) score.kl = json.at("kl").get<double>();
  return score;
}

}  // namespace molt::eval
