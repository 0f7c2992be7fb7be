// molt prune as a user meets it.
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

class PruneCommand : public testing::Test {
 protected:
  PruneCommand() { testing_support::write_file(folder_ / "page.txt", page()); }

  static std::string page() { return testing_support::read_file(demo_model() + "/page.txt").substr(0, 2000); }

  /// Mean NLL of the page under a model.
  static double nll(const std::string& model) {
    const auto finished = molt({"score", model, "--json", "--context", "The", "--continuation", page()});
    EXPECT_TRUE(succeeds(finished));
    if (finished.code != 0) return 0;
    const json sequence = json::parse(finished.out)["sequences"][0];
    double sum = 0;
    for (const json& value : sequence["logprobs"]) sum -= value.get<double>();
    return sum / static_cast<double>(sequence["logprobs"].size());
  }

  testing_support::Finished prune(const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(), {"prune", demo_model(), "--out", folder_ / name});
    return molt(more);
  }

  std::vector<std::string> calibrated(const std::string& method) {
    return {"--pattern", "2:4", "--method", method, "--calibration", folder_ / "page.txt",
            "--samples", "4",   "--length", "100",  "--json"};
  }

  TempFolder folder_;
};

// Calibrated on the page that it is judged by: what is tested is that the text takes effect, not how far that carries.
TEST_F(PruneCommand, LosesLessOnTheTextItIsCalibratedOn) {
  ASSERT_TRUE(succeeds(prune("magnitude", {"--pattern", "2:4", "--method", "magnitude"})));
  const auto finished = prune("mrp", calibrated("mrp-sm"));
  ASSERT_TRUE(succeeds(finished));
  const json report = json::parse(finished.out);
  ASSERT_EQ(report["kinds"].size(), 2U);  // in_proj, out_proj
  for (const json& kind : report["kinds"]) {
    EXPECT_EQ(2 * kind["zeros"].get<std::int64_t>(), kind["weights"].get<std::int64_t>());
    EXPECT_LT(kind["relative_error"].get<double>(), 0.5);
  }
  const double dense = nll(demo_model());
  EXPECT_LT(nll(folder_ / "mrp") - dense, 0.7 * (nll(folder_ / "magnitude") - dense));
  EXPECT_THAT(testing_support::read_file(folder_ / "mrp/pruning.json"), HasSubstr("\"method\": \"mrp-sm\""));
}

TEST_F(PruneCommand, RefusesWhatCannotBe) {
  const auto refused = [&](const std::vector<std::string>& more, const std::vector<std::string>& parts) {
    EXPECT_TRUE(is_refused(prune("out", more), parts));
  };
  refused({"--method", "mrp-sm"}, {"--calibration"});
  refused({"--method", "best"}, {"best", "known", "wanda"});
  refused({"--pattern", "4:2", "--method", "magnitude"}, {"4:2", "2:4"});
  refused({"--sparsity", "1.5", "--method", "magnitude"}, {"--sparsity"});
  refused({"--sparsity", "0.5", "--pattern", "2:4", "--method", "magnitude"}, {"--pattern"});
  refused({"--calibration", folder_ / "none.txt"}, {"none.txt"});
  refused({"--calibration", folder_ / "page.txt", "--length", "4000"}, {"windows of 4000 tokens"});
  EXPECT_TRUE(is_refused(molt({"prune", folder_ / "none", "--method", "magnitude", "--out", folder_ / "out"}),
                         {"none", "does not exist"}));
  EXPECT_TRUE(
      is_refused(molt({"prune", demo_model(), "--method", "magnitude", "--out", folder_.path()}), {"exists already"}));
}

TEST_F(PruneCommand, SaysWhatItDid) {
  const auto finished = prune("out", {"--sparsity", "0.3", "--method", "magnitude", "--only", "out_proj"});
  ASSERT_TRUE(succeeds(finished));
  for (const char* part : {"out_proj", "30.00%", "removed"}) EXPECT_THAT(finished.out, HasSubstr(part));
  EXPECT_THAT(finished.out, testing::Not(HasSubstr("in_proj")));
}

}  // namespace
}  // namespace molt
