// The pages: what a run found, well-formed, without a network, the same for the same results.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "eval/report.h"
#include "model/model.h"
#include "report/comparison_page.h"
#include "report/evaluation_page.h"
#include "tests/eval/problems.h"
#include "tests/support/markup.h"

namespace molt::report {
namespace {

using eval::testing_support::random_prompts;
using eval::testing_support::tiny_model;
using molt::testing_support::loads_nothing;
using molt::testing_support::read_markup;
using testing::HasSubstr;
using testing::Not;

const std::string kHostile = std::string("</script><img src=x onerror='alert(1)'>\"\0&", 42);

TEST(SeriesName, LeavesOutHowMuchIsCut) {
  EXPECT_EQ(series_name("bypass:flops=0.3"), "bypass");
  EXPECT_EQ(series_name("bypass:from=2,flops=0.3,to=9"), "bypass:from=2,to=9");
  EXPECT_EQ(series_name("utr"), "utr");
  EXPECT_EQ(series_name("a:b/flops=1,x.json"), "a:b/flops=1,x.json");
}

class EvaluationPage : public testing::Test {
 protected:
  EvaluationPage() {
    eval::TaskItems task{"suffix_nll", Registry<eval::Task>::instance().find("suffix_nll"), {}};
    for (const eval::Prompt& prompt : random_prompts(model_, 6, 3)) {
      task.items.push_back({.requests = {{prompt.context, prompt.continuations[0]}},
                            .cluster = static_cast<std::int64_t>(task.items.size()),
                            .groups = {kHostile}});
    }
    std::vector<eval::Setting> settings;
    for (const char* spec : {"truncate:flops=0.2", "truncate:flops=0.4", "bypass:flops=0.2"}) {
      settings.push_back({spec, Reduction::parse(model_, spec)});
    }
    evaluation_ = eval::evaluate(model_, {task}, settings, {.window = 64, .kl = true});
    const std::vector<TokenId> passage = eval::choose_passage({task}, 1000);
    passage_ = {"A passage", std::vector<MapToken>(passage.size(), {kHostile, false, false}),
                model_.core()->config().n_layer, eval::read_passage(model_, passage, settings, 64)};
  }

  std::string page() const { return evaluation_page(kHostile, {{"da<ta", kHostile}}, evaluation_, passage_); }

  Model model_ = tiny_model();
  eval::Evaluation evaluation_;
  PassageReport passage_;
};

TEST_F(EvaluationPage, IsWellFormedAndAloneWhateverItShows) {
  EXPECT_TRUE(loads_nothing(page()));
  EXPECT_EQ(page(), page());
  EXPECT_THAT(page(), Not(HasSubstr("<img")));
}

TEST_F(EvaluationPage, HoldsTheTerminalsTable) {
  const std::string html = page();
  for (const eval::GroupReport* group : eval::shown_groups(evaluation_.tasks[0])) {
    for (const auto& row : eval::to_table(evaluation_.tasks[0], *group)) {
      for (std::size_t c = 1; c < row.size(); ++c) EXPECT_THAT(html, HasSubstr(">" + row[c] + "<"));
    }
  }
}

TEST_F(EvaluationPage, PlotsEveryReductionAndJoinsThoseOfOneMethod) {
  const std::string html = page();
  const eval::GroupReport& group = evaluation_.tasks[0].groups.back();
  for (std::size_t r = 1; r < group.rows.size(); ++r) {
    EXPECT_THAT(html, HasSubstr(fmt::format("{}: {:.1f}% cut, {:+.4f} ±", group.rows[r].setting,
                                            100 * group.rows[r].cut, group.rows[r].figures[0].change->mean)));
    EXPECT_THAT(html, HasSubstr(fmt::format("{:.2f} of dense", group.rows[r].seconds / group.rows[0].seconds)));
  }
  EXPECT_THAT(html, HasSubstr("joins"));
  EXPECT_THAT(html, HasSubstr("</svg>truncate</li>"));
}

TEST_F(EvaluationPage, SaysThatARunWasStopped) {
  EXPECT_THAT(page(), Not(HasSubstr("stopped")));
  evaluation_.complete = false;
  evaluation_.tasks[0].items = 0;
  evaluation_.tasks[0].groups.clear();
  passage_ = {};
  EXPECT_TRUE(loads_nothing(page()));
  EXPECT_THAT(page(), HasSubstr("0 of 6 items"));
}

Comparison comparison() {
  Comparison c;
  c.model = kHostile;
  c.facts = {{"text", kHostile}};
  c.tokens = {{"a", false, false}, {kHostile, false, false}};
  c.layers = 3;
  c.suffix_tokens = 4;
  c.suffix = kHostile;
  c.settings = {{{"dense", {}, 1000000}, 0.5, 30'000'000, 2.0, std::nullopt, kHostile},
                {{kHostile, {}, 500000}, 0.25, std::nullopt, 2.25, 0.125, "other"}};
  ReductionRecord& record = c.settings[1].reading.record;
  record.tokens = 2;
  record.fates = {{0, 1, TokenFate::Kind::merged, 1, 1, -1}};
  record.full = {2, 2, 1};
  record.writing = {0, 0, 0};
  record.flops = 3;
  record.dense_flops = 4;
  return c;
}

TEST(ComparisonPage, IsWellFormedAndAloneWhateverItShows) {
  EXPECT_TRUE(loads_nothing(comparison_page(comparison())));
  Comparison dense = comparison();
  dense.settings.pop_back();
  dense.settings[0].nll.reset();
  dense.suffix_tokens = 0;
  EXPECT_TRUE(loads_nothing(comparison_page(dense)));
}

TEST(ComparisonPage, TableSaysWhatWasMeasured) {
  const auto rows = to_table(comparison());
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0],
            (std::vector<std::string>{"", "FLOPs", "time", "speed", "memory", "working", "NLL", "change", "KL"}));
  EXPECT_EQ(rows[1], (std::vector<std::string>{"dense", "0.0%", "500.0 ms", "1.00x", "30 MB", "1.0 MB", "2.000"}));
  EXPECT_EQ(rows[2], (std::vector<std::string>{kHostile, "-25.0%", "250.0 ms", "2.00x", "-", "0.5 MB", "2.250",
                                               "+0.250", "0.1250"}));
}

}  // namespace
}  // namespace molt::report
