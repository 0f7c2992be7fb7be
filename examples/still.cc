// still: at each site the tokens are pruned whose residual stream the block changed least, by |h| / |r + h|.
#include <molt/reducer.h>

#include <algorithm>
#include <cmath>

namespace {

double norm(const std::vector<float>& rows, std::size_t row, std::size_t width) {
  double sum = 0;
  for (std::size_t i = row * width; i < (row + 1) * width; ++i) sum += static_cast<double>(rows[i]) * rows[i];
  return std::sqrt(sum);
}

class Still final : public molt::Reducer {
 public:
  explicit Still(const molt::MethodInput& input) : sites_(input.schedule.sites), carry_(input.carry) {}

  std::vector<std::int64_t> sites() const override { return sites_; }

  molt::Plan plan(const molt::Site& site) const override {
    if (site.to_remove() == 0) return {};  // a cut of 0 measures nothing
    const std::vector<float> h = site.features(molt::Feature::block_output);
    const std::vector<float> stream = site.features(molt::Feature::stream);
    const std::size_t width = h.size() / static_cast<std::size_t>(site.tokens());
    std::vector<std::pair<double, std::int64_t>> changes;  // of the tokens that may leave
    for (std::size_t t = 0; t < site.is_protected().size(); ++t) {
      if (site.is_protected()[t] != 0) continue;
      changes.emplace_back(norm(h, t, width) / std::max(norm(stream, t, width), 1e-12), t);
    }
    std::sort(changes.begin(), changes.end());
    molt::Plan plan;
    plan.carry = carry_;
    for (std::int64_t i = 0; i < site.to_remove(); ++i) {
      plan.departures.push_back({.token = changes[static_cast<std::size_t>(i)].second});
    }
    std::sort(plan.departures.begin(), plan.departures.end(),
              [](const auto& a, const auto& b) { return a.token < b.token; });
    return plan;
  }

 private:
  std::vector<std::int64_t> sites_;
  bool carry_;
};

const molt::MethodRegistration registration{
    "still",
    {.summary = "the tokens go whose residual stream the block changed least",
     .carry = false,
     .make = [](const molt::MethodInput& input) -> std::shared_ptr<const molt::Reducer> {
       return std::make_shared<Still>(input);
     }}};

}  // namespace
