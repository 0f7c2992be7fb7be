// molt tune as a user meets it: what it refuses, and that what it writes is taken by --reduce.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing_support::demo_model;
using testing_support::fixture;
using testing_support::is_refused;
using testing_support::molt;
using testing_support::read_file;
using testing_support::succeeds;
using testing_support::TempFolder;
using Arguments = std::vector<std::string>;

class TuneCommand : public testing::Test {
 protected:
  testing_support::Finished tune(const Arguments& more, const std::string& model = demo_model()) const {
    Arguments arguments{"tune", model};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return molt(arguments);
  }

  TempFolder folder_;
  std::string short_text_ = folder_.write("short.txt", "Too few words.<|endoftext|>And as few again.");
  std::string out_ = folder_ / "schedule.json";
};

TEST_F(TuneCommand, RefusesWhatCannotBe) {
  const std::size_t before = folder_.count();
  EXPECT_TRUE(is_refused(tune({}), {"--text"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_}), {"--out"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--method", "utr"}), {"surrogate", "ltmp"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--flops", "0.95"}), {"--flops", "0.9"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--flops", "0"}), {"--flops"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--flops", "nan"}), {"nan"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--effort", "0"}), {"--effort"}));
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", out_, "--effort", "nan"}), {"effort", "nan"}));
  for (const std::string method : {"surrogate", "ltmp"}) {
    SCOPED_TRACE(method);
    const auto refused = [&](const std::string& text, const std::string& out, const std::vector<std::string>& parts,
                             const std::string& model = demo_model()) {
      return is_refused(tune({"--text", text, "--out", out, "--method", method}, model), parts);
    };
    EXPECT_TRUE(refused(folder_ / "absent.txt", out_, {"absent.txt"}));
    EXPECT_TRUE(refused(short_text_, folder_ / "schedule.txt", {"schedule.txt", "ends in .json"}));
    EXPECT_TRUE(refused(short_text_, folder_ / "none/schedule.json", {"none/schedule.json"}));
    EXPECT_TRUE(refused(short_text_, out_, {"the calibration text is too short", "<|endoftext|>"}));
    EXPECT_TRUE(refused(folder_.write("empty.txt", ""), out_, {"the calibration text is too short"}));
    EXPECT_TRUE(refused(folder_.write("bytes.txt", "fine\nnot \xff fine"), out_, {"line 1", "UTF-8"}));
    EXPECT_TRUE(refused(short_text_, out_, {"--tokenizer"}, fixture("tiny/mamba2-tiny")));
    EXPECT_TRUE(refused(short_text_, out_, {"absent"}, folder_ / "absent"));
  }
  EXPECT_EQ(folder_.count(), before + 2) << "nothing was written but the texts";
}

// --out NAME.json puts maps into NAME.safetensors; where a model's weights lie, they stay.
TEST_F(TuneCommand, ReplacesNoWeights) {
  const std::string weights = folder_ / "model.safetensors";
  std::filesystem::copy_file(fixture("tiny/mamba2-tiny") + "/model.safetensors", weights);
  const std::string content = read_file(weights);
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", folder_ / "model.json"}), {weights, "no write maps"}));
  EXPECT_EQ(read_file(weights), content);
  EXPECT_TRUE(is_refused(tune({"--text", short_text_, "--out", folder_ / "model.json", "--method", "ltmp"}),
                         {"the calibration text is too short"}))
      << "ltmp has no maps";
}

// Five documents, of which one is held apart, made of the repository's own.
TEST_F(TuneCommand, CalibratesLtmp) {
  std::string pages;
  for (const char* page : {"README.md", "docs/reduction.md", "CONTRIBUTING.md"}) {
    pages += read_file(std::string(MOLT_SOURCE_DIR) + "/" + page) + "\n";
  }
  while (pages.size() < 70000) pages += pages;
  std::string text;
  for (std::size_t i = 0; i < 5; ++i) text += "<|endoftext|>" + pages.substr(i * 3000, 40000);
  const auto ascii_only = [](char c) { return static_cast<unsigned char>(c) >= 128; };
  std::erase_if(text, ascii_only);  // pages are cut anywhere
  const std::string path = folder_.write("text.txt", text);
  const auto finished =
      tune({"--text", path, "--out", out_, "--method", "ltmp", "--flops", "0.25", "--effort", "0.125", "--json"});
  ASSERT_TRUE(succeeds(finished));
  const json result = json::parse(finished.out);
  EXPECT_EQ(result["method"], "ltmp");
  EXPECT_NEAR(result["cut_on_calibration_text"]["mean"].get<double>(), 0.25, 0.005);
  EXPECT_NEAR(result["cut_on_text_held_apart"]["mean"].get<double>(), 0.25, 0.03);
  EXPECT_EQ(result["held_apart"][0]["method"], "tuned");
  EXPECT_NEAR(result["held_apart"][0]["cut"].get<double>(), 0.25, 0.05);

  const auto generated =
      molt({"generate", demo_model(), "--prompt", pages.substr(0, 6000), "-n", "4", "--reduce", out_, "--json"});
  ASSERT_TRUE(succeeds(generated));
  const auto inspected = molt({"inspect", demo_model(), "--reduce", out_});
  EXPECT_TRUE(is_refused(inspected, {"ltmp decides from what a prompt says", "molt logits --record"}));
}

}  // namespace
}  // namespace molt
