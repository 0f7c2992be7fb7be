// OPT models: what of a configuration molt runs, and learned positions, which each sequence of a batch counts for
// itself.
#include <gtest/gtest.h>

#include <filesystem>

#include "io/json_file.h"
#include "io/safetensors.h"
#include "model/architecture.h"
#include "model/model.h"
#include "molt/session.h"
#include "tests/io/test_files.h"
#include "tests/support/paths.h"

namespace molt {
namespace {

using testing_support::fixture;

ModelSpec with(const Json& changes) {
  Json json = {{"model_type", "opt"},      {"hidden_size", 32}, {"num_hidden_layers", 2},
               {"num_attention_heads", 4}, {"ffn_dim", 48},     {"vocab_size", 64}};
  json.update(changes);
  return read_model_spec(json, "config.json", false);
}

TEST(OptConfig, DefaultsAreThoseOfTransformers) {
  const ModelConfig read = with(Json::object()).config;
  EXPECT_EQ(read.architecture, "opt");
  EXPECT_EQ(read.n_layer, 4);
  EXPECT_FLOAT_EQ(read.norm_eps, 1e-5F);
  EXPECT_EQ(read.max_tokens, 2048);
  EXPECT_EQ(read.bos, 2);
  EXPECT_EQ(read.eos, 2);
  EXPECT_TRUE(read.tie_embeddings);
}

TEST(OptConfig, NamesWhatItDoesNotRun) {
  EXPECT_ERROR(with({{"do_layer_norm_before", false}}), "do_layer_norm_before is false");
  EXPECT_ERROR(with({{"word_embed_proj_dim", 16}}), "word_embed_proj_dim is 16, hidden_size 32");
  EXPECT_ERROR(with({{"_remove_final_layer_norm", true}}), "_remove_final_layer_norm is true");
  EXPECT_ERROR(with({{"layer_norm_elementwise_affine", false}}), "layer_norm_elementwise_affine is false");
  EXPECT_ERROR(with({{"enable_bias", false}}), "enable_bias is false");
  EXPECT_ERROR(with({{"activation_function", "gelu"}}), "activation_function is \"gelu\"");
  EXPECT_ERROR(with({{"num_attention_heads", 5}}), "5 heads do not share hidden_size, 32, evenly");
}

TEST(OptConfig, ListsWrongTensors) {
  TempFolder folder;
  std::filesystem::copy(fixture("tiny/opt-tiny"), folder / "model");
  Json json = read_json_file(fixture("tiny/opt-tiny/config.json"));
  json["max_position_embeddings"] = 126;
  json["ffn_dim"] = 44;
  folder.write("model/config.json", json.dump());
  EXPECT_ERROR(Model::load(folder / "model"), "model.decoder.embed_positions.weight is [130, 32]");
  EXPECT_ERROR(Model::load(folder / "model"), "model.decoder.layers.1.fc2.weight is [32, 48]");
}

TEST(OptConfig, CountsBiasesAndPositions) {
  const Model model = Model::load(fixture("tiny/opt-tiny"));
  std::int64_t elements = 0;
  for (const auto& [name, tensor] : read_safetensors(fixture("tiny/opt-tiny/model.safetensors")).tensors) {
    elements += tensor.size();
  }
  EXPECT_EQ(model.core()->cost().parameters, elements);
}

TEST(OptPositions, AreCountedBySequence) {
  const Model model = Model::load(fixture("tiny/opt-tiny"), {.weights = WeightType::f32});
  const std::vector<TokenId> ids{5, 17, 40, 3, 63, 22, 8, 5, 17, 40};
  const std::span<const TokenId> text = ids;
  Session session(model);
  State whole(model), long_one(model), short_one(model);
  const auto logits = session.feed(whole, text);
  const std::vector<float> expected(logits.begin(), logits.end());
  // Two sequences of one text, of which one has read more than the other.
  session.feed(long_one, text.first(7));
  session.feed(short_one, text.first(2));
  const std::vector<Sequence> batch{{&long_one, text.subspan(7)}, {&short_one, text.subspan(2)}};
  std::vector<std::vector<float>> last(2);
  session.feed_all(
      batch, [&](std::size_t s, std::int64_t, std::span<const float> row) { last[s].assign(row.begin(), row.end()); });
  EXPECT_EQ(last[0], expected);
  EXPECT_EQ(last[1], expected);
}

TEST(OptPositions, EndWithTheirTable) {
  const Model model = Model::load(fixture("tiny/opt-tiny"));
  const std::vector<TokenId> ids(128, 7);
  Session session(model);
  State state(model);
  session.feed(state, ids);
  EXPECT_ERROR(session.feed(state, std::span(ids).first(1)), "was made for texts of up to 128");
}

}  // namespace
}  // namespace molt
