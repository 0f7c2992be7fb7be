// Models in GGUF files: their logits beside a plain float64 computation, beside the same model in a folder, and what is
// said of files that do not hold a model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/safetensors.h"
#include "model/model.h"
#include "molt/session.h"
#include "tests/io/test_files.h"
#include "tests/support/gguf_model.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::gguf_of_folder;
using testing_support::GgufWriter;

/// Logits of every position, [T * tokens].
std::vector<float> logits_of(const Model& model, const std::vector<TokenId>& ids) {
  Session session(model);
  State state(model);
  std::vector<float> all;
  const Sequence sequence{&state, ids};
  session.feed_all({&sequence, 1}, [&](std::size_t, std::int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

struct Case {
  std::string name;
  std::string backend;

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name << " on " << c.backend; }
};

class GgufGolden : public testing::TestWithParam<Case> {};

// Weights in f16, bf16 and q8_0; grouped norms, norms on dt, B and C, tied and untied heads. The goldens are computed
// in float64 from the file itself and were compared with llama.cpp's logits.
TEST_P(GgufGolden, LogitsOfEveryPosition) {
  const std::string path = fixture("gguf/" + GetParam().name);
  const SafetensorsFile golden = read_safetensors(path + ".golden.safetensors");
  const Tensor& expected = golden.tensors.at("logits");
  const Tensor& input = golden.tensors.at("input_ids");
  const std::vector<TokenId> ids(input.as<std::int64_t>(), input.as<std::int64_t>() + input.size());
  const Model model = Model::load(path + ".gguf", {.weights = WeightType::f32, .backend = GetParam().backend});
  const std::vector<float> logits = logits_of(model, ids);
  ASSERT_EQ(static_cast<std::int64_t>(logits.size()), expected.size());
  const std::span<const float> values(expected.as<float>(), logits.size());
  const float largest = std::abs(
      *std::max_element(values.begin(), values.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
  for (std::size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], values[i], 1e-5F * largest) << i;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return info.param.name + "_" + info.param.backend;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GgufGolden,
                         testing::Values(Case{"mamba", "cpu"}, Case{"mamba", "reference"}, Case{"mamba2", "cpu"},
                                         Case{"mamba2", "reference"}, Case{"falcon_mamba", "cpu"},
                                         Case{"falcon_mamba", "reference"}, Case{"llama", "cpu"},
                                         Case{"llama", "reference"}),
                         case_name);

// Nothing is lost or rounded between a folder and the same model in GGUF.
TEST(GgufModel, HasTheVeryLogitsOfTheFolderItWasMadeFrom) {
  const TempFolder folder;
  std::vector<TokenId> ids;
  for (TokenId i = 0; i < 40; ++i) ids.push_back(i * 37 % 90);
  for (const std::string name : {"mamba1-tiny", "mamba2-tiny", "mamba1-bias"}) {
    SCOPED_TRACE(name);
    const std::string source = fixture("tiny/" + name);
    const std::string path = folder.write(name + ".gguf", gguf_of_folder(source));
    const Model model = Model::load(path);
    const Model original = Model::load(source);
    EXPECT_EQ(logits_of(model, ids), logits_of(original, ids));
    EXPECT_EQ(model.core()->config().architecture, "gguf");
    EXPECT_EQ(model.core()->cost().parameters, original.core()->cost().parameters);
    EXPECT_NE(model.core()->fingerprint(), original.core()->fingerprint());
  }
}

TEST(GgufModel, HoldsTheDemoModelWithItsTokenizer) {
  const TempFolder folder;
  const std::string demo = testing_support::demo_model();
  const Model model = Model::load(folder.write("demo.gguf", gguf_of_folder(demo)));
  const Model original = Model::load(demo);
  const std::string text = "The sea was calm, and we'd sailed for 1234 miles.\n\n  Then <|endoftext|>";
  const std::vector<TokenId> ids = original.tokenizer().encode(text);
  EXPECT_EQ(model.tokenizer().encode(text), ids);
  EXPECT_EQ(logits_of(model, ids), logits_of(original, ids));
  EXPECT_EQ(model.usable_tokens(), original.usable_tokens());
}

TEST(GgufModel, TellsHowItsWeightsAreStored) {
  const auto types = Model::load(fixture("gguf/falcon_mamba.gguf")).core()->stored_types();
  ASSERT_EQ(types.size(), 2U);
  EXPECT_EQ(types.at("q8_0").tensors, 2 + 2 * 3);
  EXPECT_EQ(types.at("q8_0").bytes, (2 * 272 * 64 + 2 * (256 * 64 + 36 * 128 + 64 * 128)) / 32 * 34);
  EXPECT_EQ(types.at("f32").tensors, 1 + 2 * 7);
}

TEST(GgufModel, HoldsQuantizedMatricesInBfloat16UnlessAskedOtherwise) {
  const std::string quantized = fixture("gguf/falcon_mamba.gguf");
  EXPECT_EQ(Model::load(quantized).core()->dtype(), DType::bf16);
  EXPECT_EQ(Model::load(quantized, {.weights = WeightType::f32}).core()->dtype(), DType::f32);
  EXPECT_EQ(Model::load(fixture("gguf/mamba2.gguf")).core()->dtype(), DType::bf16);
  EXPECT_EQ(Model::load(fixture("gguf/mamba.gguf")).core()->dtype(), DType::f32);
}

/// A Mamba-1 file without tensors, but for an embedding.
GgufWriter header() {
  GgufWriter out;
  out.string("general.architecture", "mamba").u32("mamba.embedding_length", 2).u32("mamba.block_count", 1);
  out.u32("mamba.ssm.inner_size", 4).u32("mamba.ssm.state_size", 2).u32("mamba.ssm.conv_kernel", 4);
  return out;
}

TEST(GgufModel, SaysWhatIsMissing) {
  const TempFolder folder;
  const auto load = [&](const GgufWriter& file) { return Model::load(folder.write("m.gguf", file.bytes())); };
  const std::string table(16, '\0');
  EXPECT_ERROR(load(GgufWriter().string("general.architecture", "bert")),
               "general.architecture is `bert`; molt runs mamba (Falcon-Mamba too), mamba2 and llama");
  EXPECT_ERROR(load(header()), "the tensor token_embd.weight [tokens, width] is missing");
  EXPECT_ERROR(load(header().tensor("token_embd.weight", 0, {2, 2}, table)), "\"mamba.ssm.time_step_rank\"");
  EXPECT_ERROR(load(header().u32("mamba.ssm.time_step_rank", 1).tensor("token_embd.weight", 0, {2, 2}, table)),
               "missing: blk.0.ssm_a [4, 2]");
  EXPECT_ERROR(load(header()
                        .u32("mamba.ssm.time_step_rank", 1)
                        .tensor("token_embd.weight", 0, {2, 2}, table)
                        .tensor("blk.0.ssm_x.bias", 0, {1}, table)),
               "unexpected: blk.0.ssm_x.bias");
  EXPECT_ERROR(load(header()
                        .u32("mamba.ssm.time_step_rank", 1)
                        .tensor("token_embd.weight", 0, {2, 2}, table)
                        .tensor("blk.0.ssm_in.weight", 0, {2, 2}, table)),
               "wrong shape: blk.0.ssm_in.weight is [2, 2], the configuration asks for [8, 2]");
}

TEST(GgufModel, RunsWithoutATokenizerAndSaysHowToNameOne) {
  const TempFolder folder;
  const auto with = [&](const char* key, const char* value) {
    std::string content = testing_support::read_file(fixture("gguf/mamba.gguf"));
    const std::size_t at = content.find(value);
    EXPECT_NE(at, content.npos);
    content[at] = 'X';
    return Model::load(folder.write(std::string(key) + ".gguf", content));
  };
  const Model unknown_model = with("model", "gpt2");
  EXPECT_FALSE(unknown_model.has_tokenizer());
  EXPECT_ERROR(unknown_model.tokenizer(), "holds a tokenizer (tokenizer.ggml.model `Xpt2`), of which molt reads only");
  EXPECT_ERROR(unknown_model.tokenizer(), "name a tokenizer.json with --tokenizer FILE");
  const Model unknown_pre = with("pre", "olmo");
  EXPECT_ERROR(unknown_pre.tokenizer(), "tokenizer.ggml.pre `Xlmo`, which molt does not know (it knows default, gpt-2");
}

}  // namespace
}  // namespace molt
