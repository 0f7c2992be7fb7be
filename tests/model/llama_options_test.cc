// Configurations of LLaMA models as they come: several spellings of one thing, and what molt does not run.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "io/json_file.h"
#include "model/architecture.h"
#include "model/archs/rope.h"
#include "model/model.h"
#include "molt/model.h"
#include "tests/io/test_files.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;
using testing_support::GgufWriter;

Json config() {
  return {{"model_type", "llama"},    {"hidden_size", 32},       {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"intermediate_size", 48}, {"vocab_size", 64},
          {"bos_token_id", 1},        {"eos_token_id", 2},       {"tie_word_embeddings", false}};
}

ModelSpec spec_of(const Json& json) {
  return read_model_spec(json, "config.json", true);
}

ModelSpec with(const Json& changes) {
  Json json = config();
  json.update(changes);
  return spec_of(json);
}

TEST(LlamaConfig, DefaultsAreThoseOfTransformers) {
  const ModelConfig read = spec_of(config()).config;
  EXPECT_EQ(read.architecture, "llama");
  EXPECT_EQ(read.n_layer, 4);
  EXPECT_FLOAT_EQ(read.norm_eps, 1e-6F);
  EXPECT_EQ(read.max_tokens, 2048);
  EXPECT_EQ(read_rope(config(), "config.json", 8), rope_frequencies(10000.0, 8));
}

TEST(LlamaConfig, ReadsBothSpellingsOfPositions) {
  const Json linear = {{"rope_type", "linear"}, {"factor", 4.0}};
  Json older = {{"rope_theta", 500.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}};
  Json newer = {{"rope_parameters", linear}};
  newer["rope_parameters"]["rope_theta"] = 500.0;
  EXPECT_EQ(read_rope(older, "", 8), read_rope(newer, "", 8));
  const std::vector<double> plain = rope_frequencies(500.0, 8);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(read_rope(older, "", 8)[i], plain[i] / 4);
  older["rope_scaling"] = nullptr;
  EXPECT_EQ(read_rope(older, "", 8), plain);
}

// By the wave length in tokens, as transformers writes the rule.
TEST(LlamaConfig, StretchesLongWaves) {
  const Json json = {{"rope_theta", 500000.0},
                     {"rope_scaling",
                      {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}}}};
  const std::vector<double> plain = rope_frequencies(500000.0, 128);
  const std::vector<double> stretched = read_rope(json, "", 128);
  int kinds[3] = {};
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double wave = 2 * std::numbers::pi / plain[i];
    double expected = plain[i];
    if (wave > 8192.0 / 1.0) {
      expected = plain[i] / 8.0;
      ++kinds[0];
    } else if (wave >= 8192.0 / 4.0) {
      const double smooth = (8192.0 / wave - 1.0) / (4.0 - 1.0);
      expected = (1 - smooth) * plain[i] / 8.0 + smooth * plain[i];
      ++kinds[1];
    } else {
      ++kinds[2];
    }
    EXPECT_NEAR(stretched[i], expected, 1e-12 * plain[i]) << i;
  }
  for (const int count : kinds) EXPECT_GT(count, 0);
}

TEST(LlamaConfig, NamesWhatItDoesNotRun) {
  EXPECT_ERROR(with({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}),
               "config.json: rope_scaling: rope_type is \"yarn\"; molt knows default, linear and llama3");
  EXPECT_ERROR(with({{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 4.0}}}}), "rope_type is \"dynamic\"");
  EXPECT_ERROR(with({{"rope_scaling", {{"type", "linear"}}}}), "\"factor\"");
  EXPECT_ERROR(with({{"rope_scaling", {{"type", "linear"}, {"factor", -1}}}}), "factor is -1; it must be positive");
  EXPECT_ERROR(with({{"rope_scaling", 3}}), "rope_scaling is 3; it must be an object or null");
  EXPECT_ERROR(with({{"rope_theta", 0}}), "rope_theta is 0; it must be positive");
  EXPECT_ERROR(with({{"partial_rotary_factor", 0.5}}), "partial_rotary_factor is 0.5");
  EXPECT_ERROR(with({{"num_key_value_heads", 3}}), "4 heads of queries do not share 3 heads of keys and values evenly");
  EXPECT_ERROR(with({{"head_dim", 7}}), "heads have 7 channels; rotary positions turn pairs of them");
  EXPECT_ERROR(with({{"head_dim", 1 << 20}}), "are more than molt runs");
  EXPECT_ERROR(with({{"hidden_act", "gelu"}}), "hidden_act is \"gelu\"");
  EXPECT_ERROR(with({{"eos_token_id", Json::array()}}), "eos_token_id is an empty list");
  EXPECT_ERROR(with({{"eos_token_id", {1, 64}}}), "eos_token_id");
  EXPECT_ERROR(with({{"num_hidden_layers", 10000}}), "num_hidden_layers");
}

TEST(LlamaConfig, ListsWrongTensors) {
  TempFolder folder;
  std::filesystem::copy(fixture("tiny/llama-gqa"), folder / "model");
  const auto write = [&](const Json& changes) {
    Json json = read_json_file(fixture("tiny/llama-gqa/config.json"));
    json.update(changes);
    folder.write("model/config.json", json.dump());
  };
  write({{"attention_bias", true}});
  EXPECT_ERROR(Model::load(folder / "model"), "missing: model.layers.0.self_attn.q_proj.bias [32]");
  write({{"mlp_bias", true}});
  EXPECT_ERROR(Model::load(folder / "model"), "missing: model.layers.1.mlp.down_proj.bias [32]");
  write({{"num_key_value_heads", 4}});
  EXPECT_ERROR(Model::load(folder / "model"), "wrong shape: model.layers.0.self_attn.k_proj.weight is [16, 32]");
  write({{"num_hidden_layers", 1}});
  EXPECT_ERROR(Model::load(folder / "model"), "unexpected: model.layers.1.input_layernorm.weight");
}

// Positions are no tensors, but states belong to them.
TEST(LlamaConfig, FingerprintsTellPositionsApart) {
  TempFolder folder;
  std::filesystem::copy(fixture("tiny/llama-gqa"), folder / "model");
  const std::string before = Model::load(folder / "model").core()->fingerprint();
  Json json = read_json_file(folder / "model/config.json");
  json["rope_parameters"]["rope_theta"] = 20000.0;
  folder.write("model/config.json", json.dump());
  EXPECT_NE(Model::load(folder / "model").core()->fingerprint(), before);
}

/// The keys of a small model without tensors, but for an embedding.
GgufWriter llama_header() {
  GgufWriter out;
  out.string("general.architecture", "llama").u32("llama.embedding_length", 8).u32("llama.block_count", 1);
  out.u32("llama.feed_forward_length", 4).u32("llama.attention.head_count", 2);
  return out.tensor("token_embd.weight", 0, {2, 8}, std::string(64, '\0'));
}

TEST(LlamaGguf, NamesWhatItDoesNotRun) {
  const TempFolder folder;
  const auto load = [&](const GgufWriter& file) { return Model::load(folder.write("m.gguf", file.bytes())); };
  EXPECT_ERROR(load(llama_header()), "missing: blk.0.attn_k.weight [8, 8]");
  EXPECT_ERROR(load(llama_header().u32("llama.expert_count", 8)), "llama.expert_count is not 0");
  EXPECT_ERROR(load(llama_header().string("llama.rope.scaling.type", "yarn")), "llama.rope.scaling.type is `yarn`");
  EXPECT_ERROR(load(llama_header().u32("llama.rope.dimension_count", 6)), "llama.rope.dimension_count is 6");
  EXPECT_ERROR(load(llama_header().u32("llama.attention.value_length", 2)), "key_length is 4, value_length 2");
  EXPECT_ERROR(load(llama_header().u32("llama.attention.head_count_kv", 3)), "do not share 3 heads");
  EXPECT_ERROR(load(llama_header().tensor("rope_freqs.weight", 0, {3}, std::string(12, '\0'))),
               "rope_freqs.weight is f32 [3]; a factor for each of 2 pairs is wanted");
  EXPECT_ERROR(load(llama_header().tensor("rope_freqs.weight", 0, {2}, std::string(8, '\0'))),
               "rope_freqs.weight[0] is 0; it must be positive");
}

}  // namespace
}  // namespace molt
