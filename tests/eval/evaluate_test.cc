// Settings on the same items: pairing, batches, stopping and going on.
#include "eval/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/report.h"
#include "molt/error.h"
#include "tests/eval/problems.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using molt::testing_support::TempFolder;
using testing_support::pointers_to;
using testing_support::random_prompts;
using testing_support::tiny_model;

class Evaluate : public testing::Test {
 protected:
  Model model_ = tiny_model();

  /// A task of `count` made-up items: two of a document, of an even and an odd group.
  TaskItems task(std::size_t count, std::uint64_t seed) const {
    TaskItems task{"suffix_nll", Registry<Task>::instance().find("suffix_nll"), {}};
    for (const Prompt& prompt : random_prompts(model_, count, seed)) {
      const auto number = static_cast<std::int64_t>(task.items.size());
      task.items.push_back({.requests = {{prompt.context, prompt.continuations[0]}},
                            .cluster = number / 2,
                            .groups = {number % 2 == 0 ? "even" : "odd"}});
    }
    return task;
  }

  std::vector<Setting> settings(const std::vector<std::string>& specs) const {
    std::vector<Setting> settings;
    for (const std::string& spec : specs) settings.push_back({spec, Reduction::parse(model_, spec)});
    return settings;
  }

  static EvaluateOptions options(Journal* journal = nullptr) {
    return {.window = 64, .kl = true, .journal = journal, .shard = {}, .progress = {}};
  }

  /// All but the times.
  static std::string findings(const Evaluation& evaluation) {
    Json json = to_json(evaluation);
    for (Json& task : json) {
      for (Json& group : task["groups"]) {
        for (Json& row : group["settings"]) row.erase("seconds");
      }
    }
    return json.dump(1);
  }
};

TEST_F(Evaluate, CutOfNothingDiffersByNothing) {
  const auto result =
      evaluate(model_, {task(12, 1)}, settings({"utr:flops=0", "truncate:flops=0", "bypass:flops=0"}), options());
  for (const GroupReport& group : result.tasks[0].groups) {
    for (std::size_t r = 1; r < group.rows.size(); ++r) {
      const Row& row = group.rows[r];
      EXPECT_EQ(row.figures[0].change->mean, 0);
      EXPECT_EQ(row.figures[0].change->error, 0);
      EXPECT_EQ(row.figures[1].metric, "kl");
      EXPECT_EQ(row.figures[1].value.mean, 0);
      EXPECT_EQ(row.cut, 0);
      EXPECT_EQ(row.reduced, 0);
    }
  }
}

TEST_F(Evaluate, ShardsMeetInAJournal) {
  const std::vector<TaskItems> tasks{task(40, 5)};
  const std::vector<Setting> both = settings({"oldest:flops=0.3", "bypass:flops=0.3"});
  const std::string whole = findings(evaluate(model_, tasks, both, options()));

  const TempFolder folder;
  const std::string path = folder / "run.jsonl";
  std::int64_t items = 0;
  for (std::size_t part = 0; part < 3; ++part) {
    Journal journal(path, model_, 64);
    EvaluateOptions of_part = options(&journal);
    of_part.shard = {.index = part, .count = 3};
    const Evaluation evaluation = evaluate(model_, tasks, both, of_part);
    EXPECT_TRUE(evaluation.complete);
    EXPECT_GT(evaluation.tasks[0].items, 0);
    EXPECT_LT(evaluation.tasks[0].items, 40);
    items += evaluation.tasks[0].items;
  }
  EXPECT_EQ(items, 40);
  Journal journal(path, model_, 64);
  EvaluateOptions rest = options(&journal);
  rest.progress = [](std::int64_t, std::int64_t) { return ADD_FAILURE() << "something was left to compute", false; };
  EXPECT_EQ(findings(evaluate(model_, tasks, both, rest)), whole);
}

TEST_F(Evaluate, MuchThatFollowsOneContextIsScoredInParts) {
  TaskItems one = task(120, 9);
  const std::vector<TokenId> context{one.items[0].requests[0].context[0]};
  for (Item& item : one.items) item.requests[0].context = context;
  one.items.push_back(one.items[3]);
  const Evaluation whole = evaluate(model_, {one}, {}, options());
  Scorer scorer(model_, 64);
  double sum = 0;
  for (const Item& item : one.items) {
    const Prompt prompt{context, {item.requests[0].continuation}};
    const Prompt* const pointer = &prompt;
    sum += nll_mean(scorer.score({&pointer, 1}, nullptr)[0].scores[0]);
  }
  EXPECT_NEAR(whole.tasks[0].groups[0].rows[0].figures[0].value.mean, sum / 121, 1e-5);

  EvaluateOptions half = options();
  half.shard = {.index = 0, .count = 2};
  const std::int64_t items = evaluate(model_, {one}, {}, half).tasks[0].items;
  EXPECT_GT(items, 0);
  EXPECT_LT(items, 121);
}

TEST_F(Evaluate, ComparesItemByItem) {
  const TaskItems made = task(9, 7);
  const auto result = evaluate(model_, {made}, settings({"truncate:flops=0.4"}), options());
  ASSERT_EQ(result.tasks[0].groups.size(), 3U);
  EXPECT_TRUE(result.complete);

  const Reduction reduction = Reduction::parse(model_, "truncate:flops=0.4");
  Scorer scorer(model_, 64);
  double sum = 0;
  double flops = 0;
  double dense_flops = 0;
  double reduced = 0;
  std::vector<double> changes;
  std::vector<std::int64_t> clusters;
  for (std::size_t i = 1; i < made.items.size(); i += 2) {
    const Prompt prompt{made.items[i].requests[0].context, {made.items[i].requests[0].continuation}};
    const Prompt* const pointer = &prompt;
    const double dense = nll_mean(scorer.score({&pointer, 1}, nullptr)[0].scores[0]);
    const Outcome outcome = scorer.score({&pointer, 1}, &reduction)[0];
    changes.push_back(nll_mean(outcome.scores[0]) - dense);
    clusters.push_back(made.items[i].cluster);
    sum += nll_mean(outcome.scores[0]);
    flops += outcome.flops;
    dense_flops += outcome.dense_flops;
    reduced += outcome.flops < outcome.dense_flops ? 1 : 0;
  }
  const GroupReport& odd = result.tasks[0].groups[2];
  EXPECT_EQ(odd.name, "odd");
  const Row& row = odd.rows[1];
  const Estimate wanted = estimate(changes, clusters);
  EXPECT_NEAR(row.figures[0].value.mean, sum / 4, 1e-5);
  EXPECT_NEAR(row.figures[0].change->mean, wanted.mean, 1e-5);
  EXPECT_NEAR(row.figures[0].change->error, wanted.error, 1e-5);
  EXPECT_EQ(row.figures[0].change->items, 4);
  EXPECT_NEAR(row.cut, 1 - flops / dense_flops, 1e-12);
  EXPECT_NEAR(row.reduced, reduced / 4, 1e-12);
  EXPECT_DOUBLE_EQ(*row.cut_asked, 0.4);
  EXPECT_FALSE(odd.rows[0].figures[0].change.has_value());
}

TEST_F(Evaluate, SamplesAreWhatTheFiguresAreMadeOf) {
  const TaskItems made = task(9, 7);
  EvaluateOptions asked = options();
  EXPECT_TRUE(evaluate(model_, {made}, {}, asked).tasks[0].samples.empty());
  asked.samples = true;
  const auto result = evaluate(model_, {made}, settings({"truncate:flops=0.4"}), asked);
  const TaskReport& report = result.tasks[0];
  EXPECT_EQ(report.settings, (std::vector<std::string>{"dense", "truncate:flops=0.4"}));
  ASSERT_EQ(report.samples.size(), 9U);
  for (std::size_t s = 0; s < 2; ++s) {
    double sum = 0;
    for (const Sample& sample : report.samples) {
      ASSERT_EQ(sample.scores.size(), 2U);
      ASSERT_EQ(sample.scores[s].size(), 1U);
      const auto& continuation = made.items[sample.item].requests[0].continuation;
      EXPECT_EQ(sample.scores[s][0].logprobs.size(), continuation.size());
      EXPECT_EQ(sample.scores[s][0].kl.has_value(), s > 0);
      sum += nll_mean(sample.scores[s][0]);
    }
    EXPECT_NEAR(sum / 9, report.groups[0].rows[s].figures[0].value.mean, 1e-9);
  }
}

TEST_F(Evaluate, OtherTasksChangeNothing) {
  const TaskItems first = task(8, 7);
  const TaskItems second = task(9, 8);
  const auto specs = settings({"oldest:flops=0.3"});
  const auto alone = evaluate(model_, {first}, specs, options());
  const auto together = evaluate(model_, {second, first}, specs, options());
  for (std::size_t g = 0; g < alone.tasks[0].groups.size(); ++g) {
    for (std::size_t r = 0; r < 2; ++r) {
      const Row& a = alone.tasks[0].groups[g].rows[r];
      const Row& b = together.tasks[1].groups[g].rows[r];
      EXPECT_NEAR(a.figures[0].value.mean, b.figures[0].value.mean, 1e-5);
      EXPECT_DOUBLE_EQ(a.cut, b.cut);
    }
  }
}

TEST_F(Evaluate, GoesOnWhereItWasStopped) {
  const TempFolder folder;
  const TaskItems made = task(40, 2);
  const auto specs = settings({"oldest:flops=0.3", "truncate:flops=0.3"});
  std::int64_t all = 0;
  EvaluateOptions plain = options();
  plain.progress = [&](std::int64_t done, std::int64_t total) {
    all = done;
    EXPECT_LE(done, total + 1);
    return true;
  };
  const std::string wanted = findings(evaluate(model_, {made}, specs, plain));

  std::int64_t computed = 0;
  for (const double share : {0.3, 0.7}) {
    Journal journal(folder / "run.jsonl", model_, 64);
    EvaluateOptions stopping = options(&journal);
    std::int64_t done_here = 0;
    stopping.progress = [&](std::int64_t done, std::int64_t /*total*/) {
      done_here = done;
      return static_cast<double>(computed + done) < share * static_cast<double>(all);
    };
    const Evaluation part = evaluate(model_, {made}, specs, stopping);
    EXPECT_FALSE(part.complete);
    EXPECT_LT(part.tasks[0].items, 40);
    computed += done_here;
  }
  Journal journal(folder / "run.jsonl", model_, 64);
  std::int64_t rest = 0;
  EvaluateOptions going_on = options(&journal);
  going_on.progress = [&](std::int64_t done, std::int64_t /*total*/) {
    rest = done;
    return true;
  };
  EXPECT_EQ(findings(evaluate(model_, {made}, specs, going_on)), wanted);
  EXPECT_LT(rest, all * 6 / 10);

  // And then there is nothing left to do.
  Journal again(folder / "run.jsonl", model_, 64);
  EvaluateOptions done = options(&again);
  done.progress = [](std::int64_t, std::int64_t) -> bool { throw Error("computed something"); };
  EXPECT_EQ(findings(evaluate(model_, {made}, specs, done)), wanted);
}

TEST_F(Evaluate, StoppedAtOnceReportsNothing) {
  EvaluateOptions stopping = options();
  stopping.progress = [](std::int64_t, std::int64_t) { return false; };
  const Evaluation nothing = evaluate(model_, {task(5, 1)}, {}, stopping);
  EXPECT_FALSE(nothing.complete);
  EXPECT_EQ(nothing.tasks[0].items, 0);
  EXPECT_THAT(to_text(nothing), testing::HasSubstr("0 of 5 items"));
}

TEST_F(Evaluate, RefusesWhatItCannotCompare) {
  EXPECT_THROW(evaluate(model_, {task(2, 1)}, settings({"utr:flops=0.1", "utr:flops=0.1"}), options()), Error);
  EXPECT_THROW(evaluate(model_, {task(2, 1)}, settings({"utr:flops=0.1,scope=sequence"}), options()), Error);
}

TEST_F(Evaluate, TextShowsEveryFigure) {
  const std::string text = to_text(evaluate(model_, {task(12, 1)}, settings({"truncate:flops=0.4"}), options()));
  for (const char* part : {"suffix_nll: ", "even: 6 items", "dense", "truncate:flops=0.4", "nll", "change", "kl", "cut",
                           "reduced", "time", " ± "}) {
    EXPECT_THAT(text, testing::HasSubstr(part));
  }
}

}  // namespace
}  // namespace molt::eval
