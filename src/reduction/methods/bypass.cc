// bypass: older tokens do not run the blocks from .. to-1 and come back before block `to`, their residual unchanged.
// Our own: nothing of the prompt is lost, first and last layers see all of it, and their states remember all of it.
//
// Of N tokens k = min(N-2, floor(N * flops * layers / (to - from))) take the bypass: the oldest of the whole prompt
// where its length is known, else of the window; or the window's least contributing ones (Site::contribution() of the
// block before).
#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "reduction/select.h"

namespace molt {
namespace {

class Bypass final : public Reducer {
 public:
  explicit Bypass(const MethodInput& input)
      : carry_(input.carry),
        protect_first_(input.protect_first),
        from_(block(input, "from", 1)),
        to_(block(input, "to", 5)),
        by_contribution_(input.options.text("which") == "contribution") {
    const std::int64_t layers = input.model.layers;
    if (from_ >= to_ || to_ > layers) {
      fail("from is {} and to is {}: of {} blocks those from .. to-1 are left out", from_, to_, layers);
    }
    if (by_contribution_ && from_ == 0) fail("which=contribution needs a block to look at: from must be at least 1");
    const double most = static_cast<double>(to_ - from_) / static_cast<double>(layers);
    if (input.flops > most) {
      fail("a bypass from {} to {} of {} blocks cuts at most {:.3g} of the FLOPs, not {}: widen it, or ask for less",
           from_, to_, layers, most, input.flops);
    }
    share_ = input.flops * static_cast<double>(layers) / static_cast<double>(to_ - from_);
  }

  std::vector<std::int64_t> sites() const override { return {from_ - 1}; }

  Measures measures() const override { return {.output = false, .contribution = by_contribution_}; }

  Plan plan(const Site& site) const override {
    const std::vector<std::int64_t> tokens = choose(site);
    Plan plan = prune(tokens, carry_);
    plan.courses = {Course{.return_at = to_}};
    return plan;
  }

 private:
  /// The key's value, or so many sixths of the model.
  static std::int64_t block(const MethodInput& input, std::string_view key, int sixths) {
    if (input.options.has(key)) return input.options.integer(key);
    return std::lround(static_cast<double>(input.model.layers * sixths) / 6);
  }

  std::vector<std::int64_t> choose(const Site& site) const {
    if (!by_contribution_) return oldest(site, protect_first_, count(site.place().scope()));
    const std::int64_t wanted = count(site.tokens());
    if (wanted == 0) return {};
    const std::vector<float> contribution = site.contribution();
    return least(std::span(contribution), unprotected_tokens(site), wanted);
  }

  std::int64_t count(std::int64_t tokens) const {
    const auto wanted = static_cast<std::int64_t>(std::floor(static_cast<double>(tokens) * share_ + 1e-9));
    return std::clamp<std::int64_t>(wanted, 0, std::max<std::int64_t>(0, tokens - 2));
  }

  bool carry_;
  std::int64_t protect_first_;
  std::int64_t from_;
  std::int64_t to_;
  bool by_contribution_;
  double share_ = 0;  // of the tokens that take the bypass
};

OptionInfo block_option(std::string name, std::string help) {
  return {.name = std::move(name),
          .kind = OptionInfo::Kind::integer,
          .default_value = "",
          .help = std::move(help),
          .low = 0,
          .high = 1e6};
}

const MethodRegistration registration{
    "bypass",
    {.summary = "older tokens leave out the blocks from .. to-1 and come back (ours)",
     .uses_schedule = false,
     .carry = true,
     .options = {block_option("from", "the first block that is left out; a sixth of the model when not given"),
                 block_option("to", "the block before which they come back; five sixths when not given"),
                 choice_option("which", {"oldest", "contribution"},
                               "the oldest tokens, or those of which least is left in the state")},
     .make = [](const MethodInput& input) -> std::shared_ptr<const Reducer> {
       return std::make_shared<Bypass>(input);
     }}};

}  // namespace
}  // namespace molt
