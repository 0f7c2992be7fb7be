// Quantized folders: what is written, that it is read back as it was made, and what is refused.
#include "compress/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "molt/session.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::fixture;
using testing_support::message_of;
using testing_support::read_file;
using testing_support::TempFolder;

const QuantizationPlan kPlans[] = {{{8, 0}, {8, 0}}, {{4, 32}, {8, 0}}, {{4, 64}, {4, 64}}, {{4, 128}, {8, 0}}};

std::vector<float> logits_of(const Model& model) {
  Random random(3);
  std::vector<TokenId> ids(40);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % static_cast<std::uint64_t>(model.vocab_size()));
  Session session(model, {.window = 16, .progress = {}});
  State state(model);
  const auto logits = session.feed(state, ids);
  return {logits.begin(), logits.end()};
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    off += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(off / size);
}

class QuantizeModel : public testing::TestWithParam<std::string> {
 protected:
  std::string source() const { return fixture("tiny/" + GetParam()); }
  std::string out(int i = 0) const { return folder_ / ("out" + std::to_string(i)); }
  TempFolder folder_;
};

TEST_P(QuantizeModel, TheReadFolderIsTheRoundedModel) {
  // The reference backend takes activations as they are: its logits show the weights alone.
  int i = 0;
  const std::vector<float> dense = logits_of(Model::load(source(), {.backend = "reference"}));
  double eight = 0;
  for (const QuantizationPlan& plan : kPlans) {
    const QuantizeReport report = quantize_model(source(), out(i), {.plan = plan});
    EXPECT_FALSE(report.kinds.empty());
    for (const auto& [name, kind] : report.kinds) {
      EXPECT_GT(kind.relative_error(), 0) << name;
      EXPECT_LT(kind.relative_error(), kind.format == "int8" ? 0.02 : 0.2) << name;
    }
    const Model model = Model::load(out(i), {.backend = "reference"});
    const double off = relative_difference(logits_of(model), dense);
    if (i == 0) eight = off;
    EXPECT_GT(off, 0);
    EXPECT_LT(off, i == 0 ? 0.05 : 0.6);
    EXPECT_GE(off, eight);
    // Rounded activations change little more.
    EXPECT_LT(relative_difference(logits_of(Model::load(out(i))), logits_of(model)), 0.1);
    ++i;
  }
}

TEST_P(QuantizeModel, LoadingRoundsToTheSame) {
  quantize_model(source(), out(0), {.plan = {{8, 0}, {8, 0}}});
  quantize_model(source(), out(1), {.plan = {{4, 64}, {8, 0}}});
  EXPECT_EQ(logits_of(Model::load(out(0))), logits_of(Model::load(source(), {.weights = WeightType::int8})));
  EXPECT_EQ(logits_of(Model::load(out(1))), logits_of(Model::load(source(), {.weights = WeightType::int4})));
  // A quantized folder stays so, whatever is asked for.
  EXPECT_EQ(Model::load(out(1), {.weights = WeightType::bf16}).core()->cost().weight_bytes >
                Model::load(source(), {.weights = WeightType::bf16}).core()->cost().weight_bytes,
            false);
}

INSTANTIATE_TEST_SUITE_P(Tiny, QuantizeModel,
                         testing::Values("mamba1-tiny", "mamba2-tiny", "falcon-mamba-tiny", "mamba1-tiny-mamba_ssm",
                                         "mamba2-tiny-mamba_ssm"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class QuantizedFolder : public testing::Test {
 protected:
  const std::string source_ = fixture("tiny/mamba2-tiny");
  TempFolder folder_;
  const std::string out_ = folder_ / "out";
  const std::string file_ = out_ + "/model.safetensors";

  /// Writes the quantized model with one tensor replaced, or left out.
  void damage(const std::string& name, const Tensor& tensor) {
    SafetensorsFile file = read_safetensors(file_);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (auto& [key, value] : file.tensors) {
      if (key != name) tensors.emplace_back(key, value.clone());
    }
    if (!tensor.empty()) tensors.emplace_back(name, tensor);
    file = {};
    write_safetensors(file_, tensors);
  }

  std::string refusal() {
    return message_of([this] { Model::load(out_); });
  }
};

TEST_F(QuantizedFolder, IsComplete) {
  quantize_model(source_, out_, {.plan = {{4, 32}, {8, 0}}});
  EXPECT_EQ(read_file(out_ + "/config.json"), read_file(source_ + "/config.json"));
  const SafetensorsFile file = read_safetensors(file_);
  const auto quantization = nlohmann::json::parse(file.metadata.at("quantization"));
  EXPECT_EQ(quantization["method"], "rtn");
  EXPECT_EQ(quantization["blocks"]["group"], 32);
  EXPECT_EQ(quantization["embedding"]["format"], "int8");
  EXPECT_FALSE(file.tensors.contains("backbone.layers.0.mixer.in_proj.weight"));
  EXPECT_TRUE(file.tensors.contains("backbone.layers.0.mixer.in_proj.weight.codes"));
  EXPECT_TRUE(file.tensors.contains("backbone.layers.0.norm.weight"));
  EXPECT_EQ(folder_.count(), 1U) << "a temporary folder is left";
}

TEST_F(QuantizedFolder, StoresWhatRoundingMade) {
  quantize_model(source_, out_, {.plan = {{4, 32}, {8, 0}}});
  const std::string name = "backbone.layers.1.mixer.out_proj.weight";
  const Tensor weight = Checkpoint::open(source_).at(name);
  const SafetensorsFile file = read_safetensors(file_);
  const StoredParts parts{file.tensors.at(name + ".codes"), file.tensors.at(name + ".scales"),
                          file.tensors.at(name + ".zeros")};
  const QuantizedMatrix read = parts.read(name, weight.shape()[0], weight.shape()[1]);
  const QuantizedMatrix made = round_to_nearest(weight, {4, 32});
  EXPECT_EQ(read.format, made.format);
  for (const auto& [a, b] :
       {std::pair(read.codes, made.codes), std::pair(read.scales, made.scales), std::pair(read.zeros, made.zeros)}) {
    ASSERT_EQ(a.shape(), b.shape());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())), 0);
  }
  EXPECT_LT(parts.codes->bytes(), weight.shape()[0] * (weight.shape()[1] / 2 + 1));
}

TEST_F(QuantizedFolder, OddWidthsKeepEveryCode) {
  const QuantizedMatrix made = [] {
    QuantizedMatrix matrix({4, 32}, 3, 5);
    for (std::uint8_t i = 0; i < 15; ++i) matrix.codes.as<std::uint8_t>()[i] = i;
    return matrix;
  }();
  const auto stored = stored_parts("w", made);
  const QuantizedMatrix read = StoredParts{stored[0].second, stored[1].second, stored[2].second}.read("w", 3, 5);
  EXPECT_EQ(std::memcmp(read.codes.data(), made.codes.data(), 15), 0);
}

TEST_F(QuantizedFolder, IsNotOverwrittenNorQuantizedTwice) {
  quantize_model(source_, out_, {});
  const std::string before = read_file(file_);
  EXPECT_THAT(message_of([this] { quantize_model(source_, out_, {}); }), HasSubstr("exists already"));
  EXPECT_EQ(read_file(file_), before);
  EXPECT_THAT(message_of([this] { quantize_model(out_, folder_ / "twice", {}); }), HasSubstr("quantized already"));
  EXPECT_EQ(folder_.count(), 1U);
}

TEST_F(QuantizedFolder, NothingIsLeftOfAFailure) {
  fs::copy(source_, folder_ / "bad", fs::copy_options::recursive);
  fs::permissions(folder_ / "bad/model.safetensors", fs::perms::owner_all);
  SafetensorsFile file = read_safetensors(source_ + "/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (auto& [name, tensor] : file.tensors) tensors.emplace_back(name, tensor.to_f32());
  const std::string bad = "backbone.layers.0.mixer.in_proj.weight";
  for (auto& [name, tensor] : tensors) {
    if (name == bad) tensor.as<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  }
  write_safetensors(folder_ / "bad/model.safetensors", tensors);
  const std::string message = message_of([&] { quantize_model(folder_ / "bad", out_, {}); });
  EXPECT_THAT(message, HasSubstr(bad));
  EXPECT_THAT(message, HasSubstr("row 0, column 5"));
  EXPECT_EQ(folder_.count(), 1U);
  // Loading rounds, too, and refuses the same.
  EXPECT_THAT(message_of([&] { Model::load(folder_ / "bad", {.weights = WeightType::int8}); }), HasSubstr(bad));
}

TEST_F(QuantizedFolder, UnknownMethodsAreNamed) {
  EXPECT_THAT(message_of([this] { quantize_model(source_, out_, {.method = "best"}); }), HasSubstr("rtn"));
}

TEST_F(QuantizedFolder, DamageIsNamed) {
  const std::string name = "backbone.layers.0.mixer.in_proj.weight";
  const auto shape = Checkpoint::open(source_).at(name).shape();
  const auto again = [&](const std::string& part, const Tensor& tensor) {
    fs::remove_all(out_);
    quantize_model(source_, out_, {.plan = {{4, 32}, {8, 0}}});
    damage(name + part, tensor);
    return refusal();
  };
  EXPECT_THAT(again(".codes", {}), HasSubstr("missing: " + name));
  EXPECT_THAT(again(".scales", {}), HasSubstr("missing: " + name + ".scales"));
  EXPECT_THAT(again(".zeros", {}), HasSubstr("missing: " + name + ".zeros"));
  EXPECT_THAT(again(".codes", Tensor::zeros(DType::f32, shape)), HasSubstr("wrong type: " + name + ".codes"));
  EXPECT_THAT(again(".codes", Tensor::zeros(DType::u8, {shape[0], shape[1] + 1})), HasSubstr("wrong shape"));
  EXPECT_THAT(again(".scales", Tensor::zeros(DType::bf16, {shape[0], 77})), HasSubstr("wrong shape"));
  EXPECT_THAT(again(".zeros", Tensor::zeros(DType::u8, {shape[0], 77})), HasSubstr("wrong shape"));
  const std::int64_t groups = QuantizedFormat{4, 32}.groups_of(shape[1]);
  Tensor scales = Tensor::zeros(DType::bf16, {shape[0], groups});
  scales.as<BFloat16>()[3] = BFloat16::from_float(-1);
  EXPECT_THAT(again(".scales", scales), HasSubstr("damaged: " + name + ".scales holds -1"));
  Tensor zeros = Tensor::zeros(DType::u8, {shape[0], groups});
  zeros.as<std::uint8_t>()[0] = 16;
  EXPECT_THAT(again(".zeros", zeros), HasSubstr("damaged: " + name + ".zeros holds 16"));
  EXPECT_THAT(again(".surplus", zeros), HasSubstr("unexpected: " + name + ".surplus"));
}

TEST(QuantizationPlan, LeavesSmallThingsAlone) {
  const QuantizationPlan plan{{4, 64}, {8, 0}};
  for (const char* name : {"in_proj", "x_proj", "out_proj"}) {
    EXPECT_EQ(plan.format_of(std::string("backbone.layers.0.mixer.") + name + ".weight"), (QuantizedFormat{4, 64}));
  }
  for (const char* name : {"backbone.embeddings.weight", "backbone.embedding.weight", "lm_head.weight",
                           "backbone.layers.0.mixer.dt_proj.weight"}) {
    EXPECT_EQ(plan.format_of(name), (QuantizedFormat{8, 0}));
  }
  for (const char* name :
       {"backbone.layers.0.mixer.in_proj.bias", "backbone.layers.0.mixer.A_log", "backbone.norm_f.weight"}) {
    EXPECT_FALSE(plan.format_of(name)) << name;
  }
}

}  // namespace
}  // namespace molt
