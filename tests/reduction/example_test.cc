// The method of docs/reduction.md, built in: the same file that the package's test builds as a plugin.
#include "examples/still.cc"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "molt/session.h"
#include "reduction/core.h"
#include "tests/reduction/fake_site.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::FakeSite;

const Model& demo() {
  static const Model model = Model::load(testing_support::demo_model());
  return model;
}

TEST(Example, PrunesWhatTheBlockChangedLeast) {
  const auto reducer = Reduction::parse(demo(), "still").core().reducer;
  for (const std::int64_t tokens : {3, 4, 9, 40}) {
    for (const int levels : {0, 1, 3}) {
      const FakeSite site(tokens, tokens / 3, static_cast<std::uint64_t>(tokens), levels);
      const auto change = [&](std::int64_t t) {
        double h = 0;
        double stream = 0;
        const auto row = static_cast<std::size_t>(t);
        for (std::size_t d = 0; d < site.h[row].size(); ++d) {
          const float sum = site.r[row][d] + site.h[row][d];
          h += static_cast<double>(site.h[row][d]) * site.h[row][d];
          stream += static_cast<double>(sum) * sum;
        }
        return std::sqrt(h) / std::max(std::sqrt(stream), 1e-12);
      };
      std::vector<std::int64_t> wanted;
      for (std::int64_t t = 1; t + 1 < tokens; ++t) wanted.push_back(t);
      std::stable_sort(wanted.begin(), wanted.end(), [&](auto a, auto b) { return change(a) < change(b); });
      wanted.resize(static_cast<std::size_t>(site.removals));
      std::sort(wanted.begin(), wanted.end());
      std::vector<std::int64_t> removed;
      for (const Departure& departure : reducer->plan(site).departures) {
        removed.push_back(departure.token);
        EXPECT_EQ(departure.hidden_into, Departure::kPruned);
        EXPECT_EQ(departure.residual_into, Departure::kPruned);
      }
      EXPECT_EQ(removed, wanted) << tokens << " tokens, levels " << levels;
    }
  }
}

TEST(Example, CutsWhatIsAsked) {
  const Reduction reduction = Reduction::parse(demo(), "still:flops=0.2,carry=on,protect_last=20");
  EXPECT_NEAR(reduction.rehearse(500).cut(), 0.2, 0.005);
  std::vector<TokenId> ids;
  for (int i = 0; i < 500; ++i) ids.push_back(i * 7 % 1000);
  Session session(demo());
  State state(demo());
  ReductionRecord record;
  session.feed(state, ids, {.reduction = &reduction, .record = &record});
  EXPECT_NEAR(record.cut(), 0.2, 0.005);
  EXPECT_EQ(record.full, reduction.rehearse(500).full);
  for (const TokenFate& fate : record.fates) EXPECT_LT(fate.position, 480);
}

}  // namespace
}  // namespace molt
