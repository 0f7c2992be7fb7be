// Against lm-evaluation-harness with Hugging Face transformers in float32 (scripts/reference/lm_eval_goldens.py): the
// same questions become the same tokens, the log-probabilities are equal to 1e-3 and the metrics follow.
//
// MOLT_LM_EVAL_ITEMS says how many items of each task to compare in place of a few; the golden file says how many it
// has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/fail.h"
#include "eval/evaluate.h"
#include "io/json_file.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt::eval {
namespace {

using testing_support::demo_model;
using testing_support::fixture;
using testing_support::large_model;
using testing_support::shared;
using testing_support::TempFolder;

/// FNV-1a, 64 bits, over ids as four bytes each, the lowest first: of context, -1, continuation.
std::string hash_of(const Request& request) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  const auto take = [&](TokenId id) {
    for (int byte = 0; byte < 4; ++byte) {
      hash = (hash ^ (static_cast<std::uint32_t>(id) >> (8 * byte) & 0xFFU)) * 0x100000001B3U;
    }
  };
  for (const TokenId id : request.context) take(id);
  take(-1);
  for (const TokenId id : request.continuation) take(id);
  return fmt::format("{:016x}", hash);
}

TaskItems read(const Model& model, const std::string& task, const std::string& data, std::int64_t limit) {
  return read_tasks({task}, {data}, {.model = model, .files = {}, .limit = limit, .contexts = {}})[0];
}

/// The sums of log-probabilities of each request of each item.
std::vector<std::vector<double>> score(const Model& model, const TaskItems& task) {
  std::vector<Prompt> prompts;
  for (const Item& item : task.items) {
    for (const Request& request : item.requests) {
      const bool same = !prompts.empty() && prompts.back().context == request.context;
      if (!same) prompts.push_back({request.context, {}});
      prompts.back().continuations.push_back(request.continuation);
    }
  }
  std::vector<const Prompt*> pointers;
  for (const Prompt& prompt : prompts) pointers.push_back(&prompt);
  Scorer scorer(model, 2048);
  std::vector<double> flat;
  for (std::size_t at = 0; at < pointers.size();) {
    const auto rest = std::span<const Prompt* const>(pointers).subspan(at);
    const std::size_t count = scorer.batch_size(rest, false);
    for (const Outcome& outcome : scorer.score(rest.first(count), nullptr)) {
      for (const Score& s : outcome.scores) flat.push_back(-nll_sum(s));
    }
    at += count;
  }
  std::vector<std::vector<double>> sums;
  std::size_t next = 0;
  for (const Item& item : task.items) {
    auto& of_item = sums.emplace_back();
    for (std::size_t r = 0; r < item.requests.size(); ++r) of_item.push_back(flat[next++]);
  }
  return sums;
}

/// The harness's figures for a task; null where the file has none for the model.
Json golden(const std::string& task, const std::string& model) {
  const Json tasks = read_json_file(fixture("eval/lm-eval.json"))["tasks"];
  if (!tasks.contains(task) || !tasks[task]["logprobs"].contains(model)) return nullptr;
  return tasks[task];
}

#define MOLT_NEEDS_GOLDEN(golden)                                                            \
  if ((golden).is_null()) {                                                                  \
    GTEST_SKIP() << "no reference yet: scripts/reference/lm_eval_goldens.py score makes it"; \
  }

std::int64_t items_asked(std::int64_t usual) {
  const char* const text = std::getenv("MOLT_LM_EVAL_ITEMS");
  return text != nullptr ? std::atoll(text) : usual;
}

class LmEval : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(LmEval, SameLogProbabilities) {
  const auto& [model_name, task_name] = GetParam();
  MOLT_NEEDS(large_model(model_name));
  MOLT_NEEDS(shared("eval"));
  const Json reference = golden(task_name, model_name);
  MOLT_NEEDS_GOLDEN(reference);
  const Json& hashes = reference["hashes"];
  const Json& logprobs = reference["logprobs"][model_name];
  const std::int64_t limit =
      std::min(items_asked(task_name == "wikitext" ? 2 : 12), static_cast<std::int64_t>(logprobs.size()));
  ASSERT_GT(limit, 0);
  const Model model = Model::load(large_model(model_name), {.weights = WeightType::f32});
  const TaskItems task = read(model, task_name, shared("eval"), limit);
  ASSERT_EQ(task.items.size(), static_cast<std::size_t>(limit));
  const std::vector<std::vector<double>> sums = score(model, task);
  double largest = 0;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    const Item& item = task.items[i];
    ASSERT_EQ(item.requests.size(), hashes[i].size()) << "item " << i;
    for (std::size_t r = 0; r < item.requests.size(); ++r) {
      EXPECT_EQ(hash_of(item.requests[r]), hashes[i][r].get<std::string>()) << "item " << i << ", request " << r;
      const double expected = logprobs[i][r].get<double>();
      // Sums over thousands of tokens (wikitext) are numbers in the thousands: float32 adds its own share.
      const double tolerance = std::max(1e-3, 1e-6 * std::abs(expected));
      EXPECT_NEAR(sums[i][r], expected, tolerance) << "item " << i << ", request " << r;
      largest = std::max(largest, std::abs(sums[i][r] - expected));
    }
  }
  RecordProperty("items", static_cast<int>(limit));
  fmt::print("{} {}: {} items, largest difference {:.2g}\n", model_name, task_name, limit, largest);
}

/// The metrics that the harness computes from its own log-probabilities are ours from the same ones.
TEST_P(LmEval, SameMetrics) {
  const auto& [model_name, task_name] = GetParam();
  MOLT_NEEDS(shared("eval"));
  const Json reference = golden(task_name, model_name);
  MOLT_NEEDS_GOLDEN(reference);
  const Json& logprobs = reference["logprobs"][model_name];
  const Model model = Model::load(demo_model());  // for its tokenizer, which is that of all three
  const TaskItems task = read(model, task_name, shared("eval"), static_cast<std::int64_t>(logprobs.size()));
  ASSERT_EQ(task.items.size(), logprobs.size());
  for (const Metric& metric : task.task->metrics) {
    if (task_name == "lambada_openai" && metric.name == "acc") continue;  // asks for the likeliest token, not log p
    std::vector<double> values;
    std::vector<double> weights;
    std::vector<std::int64_t> clusters;
    for (std::size_t i = 0; i < task.items.size(); ++i) {
      std::vector<Score> scores;
      for (const Json& sum : logprobs[i])
        scores.push_back({{static_cast<float>(sum.get<double>())}, false, std::nullopt});
      values.push_back(metric.value(task.items[i], scores));
      if (metric.weight != nullptr) weights.push_back(metric.weight(task.items[i]));
      clusters.push_back(task.items[i].cluster);
    }
    const double mean = estimate(values, clusters, weights).mean;
    const std::string name = metric.exp_name.empty() ? metric.name : metric.exp_name;
    ASSERT_TRUE(reference["metrics"][model_name].contains(name)) << name;
    const double expected = reference["metrics"][model_name][name].get<double>();
    EXPECT_NEAR(metric.exp_name.empty() ? mean : std::exp(mean), expected, 1e-5 * std::abs(expected)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, LmEval,
                         testing::Combine(testing::Values("mamba2-49m", "mamba1-49m"),
                                          testing::Values("lambada_openai", "hellaswag", "piqa", "arc_easy",
                                                          "arc_challenge", "winogrande", "wikitext")),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param) + "_" + std::get<1>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// Questions in the published field names: texts as the harness makes them.
TEST(LmEvalFields, SameRequests) {
  const Json tasks = read_json_file(fixture("eval/lm-eval-fields.json"));
  const Model model = Model::load(demo_model());
  ASSERT_GE(tasks.size(), 5U);
  for (const auto& [name, fields] : tasks.items()) {
    const TempFolder folder;
    const std::string file = Registry<Task>::instance().find(name)->files.back();
    std::string text;
    for (const Json& doc : fields["docs"]) text += doc.dump() + "\n";
    folder.write(file, text);
    const TaskItems task = read(model, name, folder.path(), 1000);
    EXPECT_EQ(task.problems.text(), "");
    ASSERT_EQ(task.items.size(), fields["asked"].size()) << name;
    for (std::size_t i = 0; i < task.items.size(); ++i) {
      const Json& asked = fields["asked"][i];
      const Item& item = task.items[i];
      SCOPED_TRACE(fmt::format("{} {}", name, i));
      if (name == "wikitext") {
        EXPECT_EQ(item.requests[0].continuation, model.tokenizer().encode(asked["requests"][0][0].get<std::string>()));
        EXPECT_EQ(item.words, asked["words"].get<std::int64_t>());
        EXPECT_EQ(item.bytes, asked["bytes"].get<std::int64_t>());
        continue;
      }
      ASSERT_EQ(item.requests.size(), asked["requests"].size());
      for (std::size_t r = 0; r < item.requests.size(); ++r) {
        const Request expected = encode_request(model.tokenizer(), asked["requests"][r][0].get<std::string>(),
                                                asked["requests"][r][1].get<std::string>(), model.bos(), false);
        EXPECT_EQ(item.requests[r].context, expected.context);
        EXPECT_EQ(item.requests[r].continuation, expected.continuation);
      }
      if (asked.contains("answer")) {
        EXPECT_EQ(item.answer, asked["answer"].get<std::size_t>());
      }
    }
  }
}

}  // namespace
}  // namespace molt::eval
