// The search, and that what it finds is the same reduction after it was saved and read.
#include "tune/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "molt/error.h"
#include "molt/reduction.h"
#include "tests/tune/problems.h"
#include "tune/tune.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::random_probes;
using testing_support::TempFolder;
using testing_support::tiny_model;

class SearchForSchedules : public testing::TestWithParam<std::string> {
 protected:
  std::int64_t layers() const { return model_.core()->config().n_layer; }

  PromptClass prompts() const {
    PromptClass prompts{"all", std::nullopt, {.5, .9}, {}};
    for (std::uint64_t stage = 0; stage < 2; ++stage) {
      prompts.by_stage.push_back({random_probes(model_, 2, 50, 4, stage), random_probes(model_, 3, 40, 1, 7 + stage)});
    }
    return prompts;
  }

  SearchResult found(double flops) const {
    MapFitter fitter(*model_.core(), layers());
    for (const auto& text : testing_support::random_documents(model_, 4, 64, 1)) fitter.add(text);
    SearchOptions options;
    options.flops = flops;
    options.least_horizon = 4;  // of random heads, some
    options.progress = [](std::int64_t done, std::int64_t total) { EXPECT_LE(done, total); };
    return search(*model_.core(), prompts(), fitter, options);
  }

  TempFolder folder_;
  Model model_ = GetParam() == "demo" ? Model::load(testing_support::demo_model()) : tiny_model(GetParam());
};

TEST_P(SearchForSchedules, FindsTheCutAndSavesIt) {
  const SearchResult result = found(0.3);
  EXPECT_NEAR(result.cut, 0.3, 0.003);
  ASSERT_EQ(result.rule.tiers.size(), 2U);
  std::set<std::pair<std::size_t, std::int64_t>> cells;
  for (const Sensitivity& s : result.sensitivities) EXPECT_TRUE(cells.emplace(s.tier, s.layer).second);
  EXPECT_EQ(std::ssize(cells), 2 * (layers() - 1)) << "every block but the first, in each tier";

  // The same reduction three times: as found, as read back, and as counted.
  Tuned tuned;
  tuned.schedule = {result.rule};
  tuned.maps = result.maps;
  const std::string path = folder_ / "schedule.json";
  save_schedule(tuned, model_, 0.3, path);
  const Reduction read = Reduction::parse(model_, path);
  EXPECT_EQ(read.method(), "surrogate");
  EXPECT_EQ(read.flops(), 0.3);
  Reduction::Core direct;
  direct.method = "surrogate";
  direct.reducer = make_surrogate(tuned.schedule, layers(), false, [&](const WriteMapKey& key) {
    return WriteMaps::pack(result.maps.at(key), key, *model_.core(), "a test");
  });
  Trial trial(*model_.core(), random_probes(model_, 3, 100, 4, 20));
  const Loss of_direct = trial.evaluate(direct);
  const Loss of_read = trial.evaluate(read.core());
  EXPECT_NEAR(of_direct.kl, of_read.kl, model_.core()->dtype() == DType::f32 ? 1e-9 : 0.02 * of_direct.kl);
  EXPECT_EQ(of_direct.cut, of_read.cut);
  const ReductionRecord rehearsal = read.rehearse(1000);
  EXPECT_NEAR(rehearsal.cut(), result.cut, 0.005) << "the count that the search went by";
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    double full = 1000 * (1 - result.rule.tiers[1].until);
    for (std::size_t tier = 0; tier < 2; ++tier) {
      const bool runs = result.rule.tiers[tier].ops[static_cast<std::size_t>(layer)] == 'F';
      const double share = result.rule.tiers[tier].until - (tier == 0 ? 0 : result.rule.tiers[0].until);
      full += runs ? 1000 * share : 0;
    }
    if (layer == layers() - 1) continue;  // where all but the last token write only
    EXPECT_NEAR(static_cast<double>(rehearsal.full[static_cast<std::size_t>(layer)]), full, 2);
  }
}

TEST_P(SearchForSchedules, SaysWhatCannotBeHad) {
  if (GetParam() == "demo") GTEST_SKIP() << "slow, and no other path than the tiny models'";
  try {
    found(0.899);  // 90% of the tokens could leave out all blocks but the first
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("no schedule cuts 0.899"), HasSubstr("the most that could")));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SearchForSchedules, testing::Values("mamba1-tiny", "mamba2-tiny", "demo"),
                         testing_support::model_name);

}  // namespace
}  // namespace molt
