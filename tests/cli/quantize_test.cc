// molt quantize as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::demo_model;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

class QuantizeCommand : public testing::Test {
 protected:
  /// Mean NLL of a page under a model.
  static double nll(const std::string& model, const std::string& dtype) {
    const auto finished =
        molt({"score", model, "--dtype", dtype, "--json", "--context", "The", "--continuation", page()});
    EXPECT_TRUE(succeeds(finished));
    if (finished.code != 0) return 0;
    const json sequence = json::parse(finished.out)["sequences"][0];
    double sum = 0;
    for (const json& value : sequence["logprobs"]) sum -= value.get<double>();
    return sum / static_cast<double>(sequence["logprobs"].size());
  }

  static std::string page() { return testing_support::read_file(demo_model() + "/page.txt").substr(0, 2000); }

  TempFolder folder_;
};

TEST_F(QuantizeCommand, CostsLittlePerplexity) {
  const double dense = nll(demo_model(), "bf16");
  ASSERT_GT(dense, 0);
  for (const auto& [format, most] : {std::pair("int8", 0.01), std::pair("int4", 0.15)}) {
    const std::string out = folder_ / format;
    const auto finished = molt({"quantize", demo_model(), "--format", format, "--out", out, "--json"});
    ASSERT_TRUE(succeeds(finished));
    const json kinds = json::parse(finished.out)["kinds"];
    EXPECT_EQ(kinds.size(), 3U);  // embeddings, in_proj, out_proj
    EXPECT_LT(std::abs(nll(out, "auto") - dense), most) << format;
    EXPECT_EQ(nll(out, "auto"), nll(demo_model(), format));
  }
}

// Calibrated on the page that it is judged by: what is tested is that the text takes effect, not how far that carries.
TEST_F(QuantizeCommand, LosesLessOnTheTextItIsCalibratedOn) {
  testing_support::write_file(folder_ / "page.txt", page());
  const std::vector<std::string> common = {"--format", "int4", "--group", "128", "--embedding", "int4"};
  const auto loss = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"quantize", demo_model(), "--out", folder_ / name};
    arguments.insert(arguments.end(), common.begin(), common.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_TRUE(succeeds(molt(arguments)));
    return nll(folder_ / name, "auto") - nll(demo_model(), "bf16");
  };
  EXPECT_LT(
      loss("gptq", {"--method", "gptq", "--calibration", folder_ / "page.txt", "--samples", "4", "--length", "100"}),
      0.7 * loss("rtn", {}));
  const auto metadata = testing_support::read_file(folder_ / "gptq/model.safetensors").substr(0, 4000);
  for (const char* part : {R"(\"method\":\"gptq\")", R"(\"samples\":4)", R"(\"length\":100)"}) {
    EXPECT_THAT(metadata, HasSubstr(part));
  }
}

TEST_F(QuantizeCommand, WantsTextForCalibratedMethodsAlone) {
  testing_support::write_file(folder_ / "page.txt", page());
  const std::vector<std::string> start = {"quantize", demo_model(), "--out", folder_ / "out"};
  const auto refused = [&](std::vector<std::string> more, const std::vector<std::string>& parts) {
    more.insert(more.begin(), start.begin(), start.end());
    EXPECT_TRUE(is_refused(molt(more), parts));
  };
  refused({"--method", "gptq"}, {"--calibration"});
  refused({"--calibration", folder_ / "page.txt"}, {"rtn", "--calibration"});
  refused({"--method", "gptq", "--calibration", folder_ / "none.txt"}, {"none.txt"});
  refused({"--method", "gptq", "--calibration", folder_ / "page.txt", "--length", "4000"}, {"windows of 4000 tokens"});
  EXPECT_EQ(folder_.count(), 1U);
}

TEST_F(QuantizeCommand, SaysWhatItDid) {
  const auto finished =
      molt({"quantize", demo_model(), "--format", "int4", "--group", "128", "--out", folder_ / "out"});
  ASSERT_TRUE(succeeds(finished));
  for (const char* part : {"in_proj", "int4 in groups of 128", "embeddings", "relative error", "smaller"}) {
    EXPECT_THAT(finished.out, HasSubstr(part));
  }
  const auto inspected = molt({"inspect", folder_ / "out"});
  ASSERT_TRUE(succeeds(inspected));
  EXPECT_THAT(inspected.out, HasSubstr("int4 in groups of 128, int8"));
}

TEST_F(QuantizeCommand, RefusesWhatCannotBe) {
  EXPECT_TRUE(is_refused(molt({"quantize", folder_ / "none", "--out", folder_ / "out"}), {"none", "does not exist"}));
  EXPECT_TRUE(
      is_refused(molt({"quantize", demo_model(), "--out", folder_.path()}), {folder_.path(), "exists already"}));
  EXPECT_TRUE(is_refused(molt({"quantize", demo_model(), "--out", folder_ / "a/b"}), {"a/b", "cannot create"}));
  EXPECT_TRUE(is_refused(molt({"quantize", demo_model(), "--out", folder_ / "out", "--method", "best"}),
                         {"best", "known", "rtn"}));
  EXPECT_TRUE(is_refused(molt({"quantize", demo_model(), "--out", folder_ / "out", "--group", "48"}), {"--group"}));
  EXPECT_TRUE(is_refused(molt({"quantize", demo_model(), "--out", folder_ / "out", "--format", "int3"}), {"--format"}));
  EXPECT_EQ(folder_.count(), 0U);
}

}  // namespace
}  // namespace molt
