// truncate: a control. The oldest tokens never enter the first block: what a user gets by cutting the prompt short, the
// first token kept, at equal FLOPs.
#include <algorithm>
#include <cmath>

#include "reduction/select.h"

namespace molt {
namespace {

class Truncate final : public Reducer {
 public:
  explicit Truncate(const MethodInput& input)
      : flops_(input.flops), carry_(input.carry), protect_first_(input.protect_first) {}

  std::vector<std::int64_t> sites() const override { return {-1}; }

  Measures measures() const override { return {.output = false, .contribution = false}; }

  Plan plan(const Site& site) const override {
    return prune(oldest(site, protect_first_, count(site.place().scope())), carry_);
  }

 private:
  /// Tokens to drop of `tokens`: the least number that meets the cut, but two tokens stay. The product's rounding is
  /// kept out.
  std::int64_t count(std::int64_t tokens) const {
    const auto wanted = static_cast<std::int64_t>(std::ceil(static_cast<double>(tokens) * flops_ - 1e-9));
    return std::clamp<std::int64_t>(wanted, 0, std::max<std::int64_t>(0, tokens - 2));
  }

  double flops_;
  bool carry_;
  std::int64_t protect_first_;
};

const MethodRegistration registration{"truncate",
                                      {.summary = "a control: the oldest tokens are dropped before the first block",
                                       .uses_schedule = false,
                                       .carry = false,
                                       .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
                                         return std::make_shared<Truncate>(input);
                                       }}};

}  // namespace
}  // namespace molt
