// random: a control. Tokens are removed at random, by a score that depends on the seed and the token's position alone:
// so a token's fate depends neither on the batch nor on what the tokens say.
#include "base/random.h"

#include "reduction/scheduled_reducer.h"
#include "reduction/select.h"

namespace molt {
namespace {

class RandomTokens final : public ScheduledReducer {
 public:
  explicit RandomTokens(const MethodInput& input)
      : ScheduledReducer(input), seed_(Random(static_cast<std::uint64_t>(input.options.integer("seed"))).next()) {}

  Measures measures() const override { return {.output = false, .contribution = false}; }

 private:
  Plan choose(const Site& site, std::int64_t count) const override {
    std::vector<double> scores;
    for (const std::int64_t position : site.positions()) {
      scores.push_back(Random(seed_ + static_cast<std::uint64_t>(position)).uniform());
    }
    return prune(least(std::span<const double>(scores), unprotected_tokens(site), count), false);
  }

  std::uint64_t seed_;
};

const MethodRegistration registration{
    "random",
    {.summary = "a control: tokens are pruned at random",
     .carry = false,
     .options = {integer_option("seed", 0, 0, std::int64_t{1} << 40, "of the random choice")},
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
       return std::make_shared<RandomTokens>(input);
     }}};

}  // namespace
}  // namespace molt
