// molt logits, tokenize, inspect, bench: what they give for good input.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/safetensors.h"
#include "molt/model.h"
#include "tests/support/molt_command.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using nlohmann::json;
using testing_support::demo_model;
using testing_support::Finished;
using testing_support::fixture;
using testing_support::molt;
using testing_support::succeeds;
using testing_support::TempFolder;

const std::string kTiny = fixture("tiny/mamba2-tiny");

class Logits : public testing::Test {
 protected:
  /// Runs `molt logits` and reads what it wrote.
  std::map<std::string, Tensor> run(std::vector<std::string> arguments, const std::string& in = "") {
    arguments.insert(arguments.begin(), {"logits", "--out", out_});
    const Finished f = molt(std::move(arguments), {.in = in});
    EXPECT_TRUE(succeeds(f));
    EXPECT_EQ(f.out, "");
    return read_safetensors(out_).tensors;
  }

  static std::string ids_of(const Tensor& ids, std::int64_t begin, std::int64_t end) {
    std::ostringstream text;
    for (std::int64_t i = begin; i < end; ++i) text << (i == begin ? "" : ",") << ids.as<std::int64_t>()[i];
    return text.str();
  }

  static double largest_difference(const float* a, const float* b, std::int64_t count) {
    double worst = 0;
    double scale = 1e-30;
    for (std::int64_t i = 0; i < count; ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
      scale = std::max(scale, std::abs(static_cast<double>(b[i])));
    }
    return worst / scale;
  }

  TempFolder folder_;
  std::string out_ = folder_ / "logits.safetensors";
  std::string golden_path_ = kTiny + "/golden.safetensors";
  std::map<std::string, Tensor> golden_ = read_safetensors(golden_path_).tensors;
  const Tensor& ids_ = golden_.at("input_ids");
  const Tensor& expected_ = golden_.at("logits");
  std::int64_t sequences_ = ids_.shape()[0];
  std::int64_t length_ = ids_.shape()[1];
  std::int64_t vocab_ = expected_.shape()[2];
};

TEST_F(Logits, OfAFilesSequencesAtEveryPosition) {
  const auto found = run({kTiny, "--ids-file", golden_path_, "--all", "--dtype", "f32"});
  ASSERT_EQ(found.at("logits").shape(), expected_.shape());
  EXPECT_EQ(found.at("input_ids").shape(), ids_.shape());
  EXPECT_LT(largest_difference(found.at("logits").as<float>(), expected_.as<float>(), expected_.size()), 1e-4);
  EXPECT_FALSE(found.contains("offsets"));
}

TEST_F(Logits, OfAFilesSequencesAtTheirEnds) {
  const auto found = run({kTiny, "--ids-file", golden_path_, "--dtype", "f32", "--window", "7"});
  ASSERT_EQ(found.at("logits").shape(), (Shape{sequences_, vocab_}));
  for (std::int64_t s = 0; s < sequences_; ++s) {
    EXPECT_LT(largest_difference(found.at("logits").as<float>() + s * vocab_,
                                 expected_.as<float>() + ((s + 1) * length_ - 1) * vocab_, vocab_),
              1e-4);
  }
}

TEST_F(Logits, OfOneSequence) {
  const std::string ids = ids_of(ids_, 0, length_);
  const auto all = run({kTiny, "--ids", ids, "--all", "--dtype", "f32"});
  ASSERT_EQ(all.at("logits").shape(), (Shape{length_, vocab_}));
  EXPECT_EQ(all.at("input_ids").shape(), (Shape{length_}));
  EXPECT_LT(largest_difference(all.at("logits").as<float>(), expected_.as<float>(), length_ * vocab_), 1e-4);
  const auto last = run({kTiny, "--ids", ids});
  ASSERT_EQ(last.at("logits").shape(), (Shape{1, vocab_}));
}

TEST_F(Logits, OfRaggedTextLines) {
  const std::string lines = ids_of(ids_, 0, 5) + "\n" + ids_of(ids_, length_, length_ + 9) + "\n\n";
  for (const std::string source : {"file", "-"}) {
    const std::string path = source == "-" ? source : folder_.write("ids.txt", lines);
    const auto found = run({kTiny, "--ids-file", path, "--all", "--dtype", "f32"}, lines);
    ASSERT_EQ(found.at("logits").shape(), (Shape{14, vocab_}));
    ASSERT_EQ(found.at("offsets").shape(), (Shape{3}));
    const auto* offsets = found.at("offsets").as<std::int64_t>();
    EXPECT_EQ(std::vector<std::int64_t>(offsets, offsets + 3), (std::vector<std::int64_t>{0, 5, 14}));
    EXPECT_LT(largest_difference(found.at("logits").as<float>(), expected_.as<float>(), 5 * vocab_), 1e-4);
    EXPECT_LT(largest_difference(found.at("logits").as<float>() + 5 * vocab_, expected_.as<float>() + length_ * vocab_,
                                 9 * vocab_),
              1e-4);
  }
}

TEST_F(Logits, InBfloat16AreCloseAndNotTheSame) {
  const auto found = run({kTiny, "--ids-file", golden_path_, "--all", "--dtype", "bf16"});
  const double difference = largest_difference(found.at("logits").as<float>(), expected_.as<float>(), expected_.size());
  EXPECT_LT(difference, 0.05);
  EXPECT_GT(difference, 1e-4) << "rounded weights must show";
}

TEST_F(Logits, OfAText) {
  const auto found = run({demo_model(), "--text", "Hello there", "--all"});
  const std::vector<TokenId> ids = Tokenizer::load(demo_model()).encode("Hello there");
  ASSERT_EQ(found.at("input_ids").size(), static_cast<std::int64_t>(ids.size()));
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(found.at("input_ids").as<std::int64_t>()[i], ids[i]);
  EXPECT_EQ(found.at("logits").shape(), (Shape{static_cast<std::int64_t>(ids.size()), 16384}));
}

TEST(Tokenize, ThereAndBackAgain) {
  const std::string text = "Hello,  w\xC3\xB6rld!\n\nOnce upon a time\n";
  const Finished ids = molt({"tokenize", demo_model()}, {.in = text});
  ASSERT_TRUE(succeeds(ids));
  EXPECT_EQ(std::count(ids.out.begin(), ids.out.end(), '\n'), 3);
  const Finished back = molt({"tokenize", demo_model() + "/tokenizer.json", "--decode"}, {.in = ids.out});
  ASSERT_TRUE(succeeds(back));
  EXPECT_EQ(back.out, text);
}

TEST(Tokenize, SpeaksJson) {
  const Finished ids = molt({"tokenize", demo_model(), "--json", "--text", "Hello there"});
  ASSERT_TRUE(succeeds(ids));
  EXPECT_EQ(json::parse(ids.out)["ids"].get<std::vector<TokenId>>(),
            Tokenizer::load(demo_model()).encode("Hello there"));
  const Finished back = molt({"tokenize", demo_model(), "--json", "--decode"}, {.in = ids.out});
  ASSERT_TRUE(succeeds(back));
  EXPECT_EQ(json::parse(back.out), json({{"text", "Hello there"}}));
}

TEST(Tokenize, EndsWhenNobodyReadsOn) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) lines += "Once upon a time there was a line like all the others\n";
  const Finished f = molt({"tokenize", demo_model()}, {.in = lines, .close_out_after = 1});
  EXPECT_TRUE(succeeds(f));
  EXPECT_EQ(f.err, "");
}

TEST(Inspect, TellsWhatTheModelIs) {
  const Finished f = molt({"inspect", kTiny, "--json"});
  ASSERT_TRUE(succeeds(f));
  const json d = json::parse(f.out);
  EXPECT_EQ(d["architecture"], "mamba2");
  EXPECT_EQ(d["blocks"], json({{"mamba2", 3}}));
  EXPECT_EQ(d["layers"], 3);
  EXPECT_EQ(d["d_model"], 64);
  EXPECT_EQ(d["vocab_size"], 97);
  EXPECT_EQ(d["tied_embeddings"], true);
  EXPECT_EQ(d["dtypes"]["matrices"], "f32");
  // Per layer: convolution 3 x 192, SSM 4 x 32 x 32 floats.
  EXPECT_EQ(d["state_bytes"], 3 * 4 * (3 * 192 + 4 * 32 * 32));
  EXPECT_EQ(d["tokenizer"], nullptr);
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : read_safetensors(kTiny + "/model.safetensors").tensors) parameters += tensor.size();
  EXPECT_EQ(d["parameters"], parameters);
  const Finished table = molt({"inspect", kTiny});
  EXPECT_TRUE(succeeds(table));
  EXPECT_NE(table.out.find("fingerprint"), std::string::npos);
}

TEST(Inspect, TellsHowMuchMemoryARunTakes) {
  const auto memory = [](const std::string& batch, const std::string& window) {
    const Finished f = molt({"inspect", kTiny, "--batch", batch, "--window", window, "--json"});
    EXPECT_TRUE(succeeds(f));
    return json::parse(f.out)["memory"];
  };
  const json few = memory("2", "64"), many = memory("8", "64"), wide = memory("8", "4096");
  EXPECT_EQ(few["total"], few["weights"].get<double>() + few["states"].get<double>() + few["scratch"].get<double>() +
                              few["of_backend"].get<double>());
  EXPECT_EQ(many["states"], 4 * few["states"].get<std::int64_t>());
  EXPECT_EQ(many["weights"], few["weights"]);
  EXPECT_GT(wide["scratch"].get<double>(), 3 * many["scratch"].get<double>());
  EXPECT_NE(molt({"inspect", kTiny, "--batch", "2"}).out.find("together"), std::string::npos);
}

TEST(Bench, MeasuresEverySettingAskedFor) {
  const Finished f = molt({"bench", "--prefill", "16,32", "--decode", "4", "--batch", "1,3", "--repeat", "2",
                           "--threads", "1", "--json", kTiny});
  ASSERT_TRUE(succeeds(f));
  const json report = json::parse(f.out);
  ASSERT_EQ(report["results"].size(), 6U);
  for (const json& result : report["results"]) {
    EXPECT_GT(result["tokens_per_s"].get<double>(), 0);
    EXPECT_LE(result["tokens_per_s_min"].get<double>(), result["tokens_per_s_max"].get<double>());
    EXPECT_EQ(result["threads"], 1);
  }
  EXPECT_EQ(report["results"][0]["kind"], "prefill");
  EXPECT_EQ(report["results"][2]["kind"], "decode");
  ASSERT_EQ(report["ceilings"].size(), 1U);
  EXPECT_GT(report["ceilings"][0]["read_gb_per_s"].get<double>(), 0);
  EXPECT_GT(report["peak_memory_bytes"].get<double>(), 0);
}

TEST(Bench, TellsWhereTheTimeGoes) {
  const Finished f = molt({"bench", "--ops", "--prefill", "40", "--decode", "4", "--repeat", "2", "--json", kTiny});
  ASSERT_TRUE(succeeds(f));
  const json report = json::parse(f.out);
  ASSERT_EQ(report["results"].size(), 2U);
  for (const json& result : report["results"]) {
    const json& times = result["op_times"];
    const bool decode = result["kind"] == "decode";
    const double fastest = result["tokens"].get<double>() / result["tokens_per_s_max"].get<double>();
    EXPECT_NEAR(times["seconds"].get<double>(), fastest / (decode ? 4 : 1), 1e-9);
    std::map<std::string, std::int64_t> calls;
    double shares = times["other_share"];
    EXPECT_GE(shares, 0) << "ops that take longer than the whole";
    EXPECT_LT(shares, 1);
    for (const json& op : times["ops"]) {
      calls[op["op"]] += op["calls"].get<std::int64_t>();
      shares += op["share"].get<double>();
      EXPECT_GT(op["gb_per_s"].get<double>(), 0);
      EXPECT_GT(op["of_bound"].get<double>(), 0);
    }
    EXPECT_NEAR(shares, 1, 1e-9);
    // Three layers, of a prompt in one window or of one step.
    EXPECT_EQ(calls, (std::map<std::string, std::int64_t>{{"embed", 1},
                                                          {"rms_norm", 1},
                                                          {"add_rms_norm", 3},
                                                          {"matmul", 7},
                                                          {"causal_conv", 3},
                                                          {"softplus", 3},
                                                          {"ssd", 3},
                                                          {"gated_rms_norm", 3},
                                                          {"gather_rows", 2}}));
  }
}

TEST(Bench, PrintsTheOpsOfAReducedPrompt) {
  const Finished f = molt({"bench", "--ops", "--prefill", "64", "--decode", "0", "--repeat", "1", "--no-ceilings",
                           "--reduce", "utr:flops=0.3", demo_model()});
  ASSERT_TRUE(succeeds(f));
  for (const char* part : {"matmul", "best_match", "the whole", "other"}) {
    EXPECT_NE(f.out.find(part), std::string::npos) << part << "\n" << f.out;
  }
  for (const char* ceiling : {"% of read", "% of matmul"}) {
    EXPECT_EQ(f.out.find(ceiling), std::string::npos) << "a share of a ceiling that was not measured\n" << f.out;
  }
}

TEST(Bench, PrintsATable) {
  const Finished f = molt({"bench", kTiny, "--prefill", "8", "--decode", "0", "--repeat", "1", "--no-ceilings"});
  ASSERT_TRUE(succeeds(f));
  EXPECT_NE(f.out.find("prefill"), std::string::npos);
}

TEST(Help, IsThereForEveryCommand) {
  EXPECT_TRUE(succeeds(molt({"--help"})));
  EXPECT_TRUE(succeeds(molt({"--version"})));
  for (const char* command : {"generate", "logits", "tokenize", "inspect", "bench"}) {
    const Finished f = molt({command, "--help"});
    EXPECT_TRUE(succeeds(f));
    EXPECT_NE(f.out.find("Example"), std::string::npos) << command << " shows no example";
    EXPECT_EQ(f.err, "");
  }
}

}  // namespace
}  // namespace molt
