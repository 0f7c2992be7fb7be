// molt score as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::fixture;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

class ScoreCommand : public testing::Test {
 protected:
  TempFolder folder_;

  static Tensor tensor(const std::vector<std::int64_t>& ids, Shape shape) {
    Tensor tensor = Tensor::uninitialized(DType::i64, std::move(shape));
    std::copy(ids.begin(), ids.end(), tensor.as<std::int64_t>());
    return tensor;
  }

  std::string ids_file(const Tensor& context, const Tensor& continuation) const {
    write_safetensors(folder_ / "ids.safetensors", {{"context_ids", context}, {"continuation_ids", continuation}});
    return folder_ / "ids.safetensors";
  }

  static json score(std::vector<std::string> more) {
    std::vector<std::string> all{"score", demo_model(), "--dtype", "f32", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const auto finished = molt(all);
    EXPECT_TRUE(succeeds(finished));
    return finished.code == 0 ? json::parse(finished.out) : json();
  }
};

TEST_F(ScoreCommand, AgreesWithTheLogits) {
  const json result =
      score({"--context", "The king sat on his ", "--continuation", "throne, and the queen"})["sequences"][0];
  const auto context = result["context_ids"].get<std::vector<int>>();
  const auto continuation = result["continuation_ids"].get<std::vector<int>>();
  ASSERT_GE(continuation.size(), 4U);
  EXPECT_EQ(result["continuation_texts"][0], " throne");  // the space went over
  // The same from molt logits: log-softmax of the positions before each token.
  std::string ids;
  for (const auto* part : {&context, &continuation}) {
    for (const int id : *part) ids += (ids.empty() ? "" : ",") + std::to_string(id);
  }
  const std::string out = folder_ / "logits.safetensors";
  ASSERT_TRUE(succeeds(molt({"logits", demo_model(), "--dtype", "f32", "--ids", ids, "--all", "--out", out})));
  const Tensor logits = read_safetensors(out).tensors.at("logits");
  const std::int64_t vocab = logits.shape().back();
  double total = 0;
  for (std::size_t i = 0; i < continuation.size(); ++i) {
    const float* row = logits.as<float>() + static_cast<std::int64_t>(context.size() + i - 1) * vocab;
    double sum = 0;
    for (std::int64_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(row[v]));
    const double expected = static_cast<double>(row[continuation[i]]) - std::log(sum);
    EXPECT_NEAR(result["logprobs"][i].get<double>(), expected, 1e-4);
    total += expected;
  }
  EXPECT_NEAR(result["sum"].get<double>(), total, 1e-3);
  EXPECT_EQ(result["cut"], 0.0);
}

TEST_F(ScoreCommand, TableShowsTokensAndSum) {
  const auto finished =
      molt({"score", demo_model(), "--context", "The king sat on his", "--continuation", " throne\nin"});
  ASSERT_TRUE(succeeds(finished));
  for (const char* part : {"log p", "\" throne\"", "\"\\n\"", "sum of 3 tokens behind 5"}) {
    EXPECT_THAT(finished.out, HasSubstr(part));
  }
}

TEST_F(ScoreCommand, IdsFilesHoldOneOrSeveral) {
  const json text = score({"--context", "The king sat on his", "--continuation", " throne"})["sequences"][0];
  const auto context = text["context_ids"].get<std::vector<std::int64_t>>();
  const auto continuation = text["continuation_ids"].get<std::vector<std::int64_t>>();
  const auto length = static_cast<std::int64_t>(context.size());
  const auto scored = static_cast<std::int64_t>(continuation.size());
  const json one = score({"--ids-file", ids_file(tensor(context, {length}), tensor(continuation, {scored}))});
  ASSERT_EQ(one["sequences"].size(), 1U);
  EXPECT_EQ(one["sequences"][0], text);

  std::vector<std::int64_t> contexts = context;
  contexts.insert(contexts.end(), context.rbegin(), context.rend());
  std::vector<std::int64_t> continuations = continuation;
  continuations.insert(continuations.end(), continuation.begin(), continuation.end());
  const json two =
      score({"--ids-file", ids_file(tensor(contexts, {2, length}), tensor(continuations, {2, scored}))})["sequences"];
  ASSERT_EQ(two.size(), 2U);
  EXPECT_NEAR(two[0]["sum"].get<double>(), text["sum"].get<double>(), 1e-4);
  EXPECT_GT(std::abs(two[1]["sum"].get<double>() - text["sum"].get<double>()), 0.1);
}

TEST_F(ScoreCommand, ReductionShortensTheContextOnly) {
  std::string context = "The king";
  for (int i = 0; i < 40; ++i) context += " and the queen and the horse";
  const json dense = score({"--context", context, "--continuation", " went home"});
  const json reduced = score({"--context", context, "--continuation", " went home", "--reduce", "truncate:flops=0.3"});
  EXPECT_TRUE(dense["reduction"].is_null());
  EXPECT_EQ(reduced["reduction"]["method"], "truncate");
  EXPECT_NEAR(reduced["sequences"][0]["cut"].get<double>(), 0.3, 0.02);
  EXPECT_EQ(reduced["sequences"][0]["continuation_ids"], dense["sequences"][0]["continuation_ids"]);
  EXPECT_NE(reduced["sequences"][0]["sum"], dense["sequences"][0]["sum"]);
}

TEST_F(ScoreCommand, EmptyContextIsTheBeginOfText) {
  const json result = score({"--context", "", "--continuation", "The king"})["sequences"][0];
  EXPECT_EQ(result["context_ids"], json({0}));
  const json with = score({"--context", "The", "--continuation", " king", "--bos"})["sequences"][0];
  EXPECT_EQ(with["context_ids"][0], 0);
  EXPECT_NEAR(with["logprobs"][0].get<double>(), result["logprobs"][1].get<double>(), 1e-4);
}

TEST_F(ScoreCommand, BadInputIsNamed) {
  const auto refused = [](std::vector<std::string> more, const std::vector<std::string>& parts) {
    more.insert(more.begin(), {"score", demo_model()});
    return is_refused(molt(more), parts);
  };
  EXPECT_TRUE(refused({}, {"either --context and --continuation, or --ids-file"}));
  EXPECT_TRUE(refused({"--context", "a"}, {"belong together"}));
  EXPECT_TRUE(refused({"--context", "a", "--continuation", "b", "--ids-file", "x"}, {"either"}));
  EXPECT_TRUE(refused({"--context", "The king", "--continuation", ""}, {"adds no token"}));
  EXPECT_TRUE(refused({"--ids-file", folder_ / "absent"}, {"absent"}));
  EXPECT_TRUE(refused({"--context", "a", "--continuation", " b", "--reduce", "utr:flops=0.2,scope=sequence"},
                      {"scope must be prompt"}));
  const Tensor two = tensor({1, 2}, {2});
  const auto file_refused = [&](const Tensor& context, const Tensor& continuation, const std::string& part) {
    const std::string path = ids_file(context, continuation);
    return refused({"--ids-file", path}, {part});
  };
  EXPECT_TRUE(file_refused(tensor({1, 2, 3, 4}, {2, 2}), two, "context_ids has 2 sequences, continuation_ids 1"));
  EXPECT_TRUE(file_refused(two, tensor({}, {0}), "continuation_ids 0"));
  EXPECT_TRUE(file_refused(tensor({}, {0}), tensor({}, {0}), "hold no token"));
  EXPECT_TRUE(file_refused(two, tensor({99999}, {1}), "token id 99999 is not in the model's vocabulary"));
  EXPECT_TRUE(file_refused(two, tensor({-1}, {1}), "-1, which is no token id"));
  write_safetensors(folder_ / "other.safetensors", {{"context_ids", two}});
  EXPECT_TRUE(
      refused({"--ids-file", folder_ / "other.safetensors"}, {"other.safetensors", "no tensor continuation_ids"}));
}

}  // namespace
}  // namespace molt
