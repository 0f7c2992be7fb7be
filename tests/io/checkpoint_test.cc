#include "io/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/safetensors.h"
#include "tests/io/torch_files.h"

namespace molt {
namespace {

Tensor floats(float value, std::int64_t count) {
  Tensor tensor = Tensor::zeros(DType::f32, {count});
  for (std::int64_t i = 0; i < count; ++i) tensor.as<float>()[i] = value;
  return tensor;
}

/// A folder of two shards with the tensors a, b and c, and this index.
struct ShardedFolder : TempFolder {
  explicit ShardedFolder(const std::string& weight_map) {
    write_safetensors(*this / "model-1.safetensors", {{"a", floats(1, 2)}, {"b", floats(2, 3)}});
    write_safetensors(*this / "model-2.safetensors", {{"c", floats(3, 4)}});
    write("model.safetensors.index.json", R"({"metadata": {"total_size": 36}, "weight_map": )" + weight_map + "}");
  }
};

constexpr const char* kMap = R"({"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"})";

std::string torch_file(float value) {
  return ZipBuilder()
      .add("m/data.pkl",
           pickle::whole(pickle::dict({{"a", pickle::tensor(pickle::storage("FloatStorage", "0", 1), 0, {1}, {1})}})))
      .add("m/data/0", std::string(reinterpret_cast<const char*>(&value), sizeof(value)))
      .build();
}

TEST(Checkpoint, OpensAFolderOfSafetensors) {
  const Checkpoint checkpoint = Checkpoint::open(kTiny + "mamba1-tiny");
  EXPECT_EQ(checkpoint.folder(), kTiny + "mamba1-tiny");
  EXPECT_EQ(checkpoint.source(), kTiny + "mamba1-tiny/model.safetensors");
  const Tensor& embedding = checkpoint.at("backbone.embeddings.weight");
  EXPECT_EQ(embedding.shape(), (Shape{97, 64}));
  EXPECT_EQ(checkpoint.find("absent"), nullptr);
  EXPECT_ERROR(checkpoint.at("absent"), "mamba1-tiny/model.safetensors: the tensor `absent` is missing");
}

TEST(Checkpoint, OpensAFolderOfPyTorch) {
  const Checkpoint checkpoint = Checkpoint::open(kTiny + "mamba2-tiny-mamba_ssm");
  EXPECT_EQ(checkpoint.source(), kTiny + "mamba2-tiny-mamba_ssm/pytorch_model.bin");
  EXPECT_NE(checkpoint.find("backbone.embedding.weight"), nullptr);
}

TEST(Checkpoint, OpensOneFile) {
  const std::string file = kTiny + "mamba1-tiny/model.safetensors";
  EXPECT_EQ(Checkpoint::open(file).folder(), kTiny + "mamba1-tiny");
  const TempFolder folder;
  // Where the name says nothing, the content decides.
  folder.write("weights", torch_file(5));
  EXPECT_EQ(*Checkpoint::open(folder / "weights").at("a").as<float>(), 5);
  std::filesystem::copy_file(file, folder / "weights.ckpt");
  EXPECT_NE(Checkpoint::open(folder / "weights.ckpt").find("backbone.embeddings.weight"), nullptr);
}

TEST(Checkpoint, OpensTheModelOfTheProduct) {
  const std::string folder = MOLT_SHARED_DIR "/models/mamba2-demo-11m";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) parameters += tensor.size();
  EXPECT_NEAR(static_cast<double>(parameters), 11.1e6, 0.1e6);
}

TEST(Checkpoint, PrefersSafetensors) {
  const TempFolder folder;
  folder.write("pytorch_model.bin", torch_file(5));
  write_safetensors(folder / "model.safetensors", {{"a", floats(7, 1)}});
  EXPECT_EQ(*Checkpoint::open(folder.path()).at("a").as<float>(), 7);
}

TEST(Checkpoint, OpensShards) {
  const ShardedFolder folder(kMap);
  for (const std::string& path : {folder.path(), folder / "model.safetensors.index.json"}) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    EXPECT_EQ(checkpoint.tensors().size(), 3U);
    EXPECT_EQ(*checkpoint.at("c").as<float>(), 3);
    EXPECT_EQ(checkpoint.source(), folder / "model.safetensors.index.json (2 shards)");
    EXPECT_EQ(checkpoint.folder(), folder.path());
  }
}

TEST(Checkpoint, OpensShardsOfPyTorch) {
  const TempFolder folder;
  folder.write("pytorch_model-1.bin", torch_file(5));
  folder.write("pytorch_model.bin.index.json", R"({"weight_map": {"a": "pytorch_model-1.bin"}})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(*checkpoint.at("a").as<float>(), 5);
  EXPECT_EQ(checkpoint.source(), folder / "pytorch_model.bin.index.json (1 shard)");
}

TEST(Checkpoint, RefusesWrongIndices) {
  const auto open = [](const std::string& weight_map) { Checkpoint::open(ShardedFolder(weight_map).path()); };
  EXPECT_ERROR(open("[]"), "an object \"weight_map\"");
  EXPECT_ERROR(open("{}"), "lists no tensor");
  EXPECT_ERROR(open(R"({"a": 1})"), "the shard of tensor `a` must be a file name, not 1");
  EXPECT_ERROR(open("{"), "model.safetensors.index.json: not valid JSON");
  for (const char* name : {"../model-1.safetensors", "/etc/passwd", "sub/model", "..", ".", "", "a\\\\b"}) {
    EXPECT_ERROR(open(fmt::format(R"({{"a": "{}"}})", name)), "must be a plain file name in the same folder");
  }
  EXPECT_ERROR(open(R"({"a": "model-3.safetensors"})"), "model-3.safetensors: the shard does not exist");
  EXPECT_ERROR(open(R"({"a": "model-1.safetensors", "a": "model-2.safetensors"})"), "stands twice");
}

TEST(Checkpoint, RefusesShardsThatDoNotMatchTheirIndex) {
  const auto open = [](const std::string& weight_map) { Checkpoint::open(ShardedFolder(weight_map).path()); };
  EXPECT_ERROR(open(R"({"a": "model-1.safetensors", "c": "model-2.safetensors"})"),
               "model-1.safetensors: tensor `b` is not listed by");
  EXPECT_ERROR(open(R"({"a": "model-1.safetensors", "b": "model-1.safetensors", "d": "model-2.safetensors"})"),
               "model-2.safetensors: tensor `d` is missing, though");
  const ShardedFolder folder(kMap);
  write_safetensors(folder / "model-2.safetensors", {{"a", floats(9, 2)}, {"c", floats(3, 4)}});
  EXPECT_ERROR(Checkpoint::open(folder.path()), "model-2.safetensors: tensor `a` lies in");
}

TEST(Checkpoint, SaysWhatAFolderWithoutAModelIs) {
  EXPECT_ERROR(Checkpoint::open("/no/such/model"), "`/no/such/model`: does not exist; name the folder of a model");
  EXPECT_ERROR(Checkpoint::open(""), "does not exist");
  const auto error_of = [](const std::vector<std::string>& names) {
    const TempFolder folder;
    for (const std::string& name : names) folder.write(name, "x");
    try {
      Checkpoint::open(folder.path());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("opened");
  };
  EXPECT_THAT(error_of({}),
              testing::HasSubstr("no model in this folder; looked for model.safetensors, model.safetensors.index.json, "
                                 "pytorch_model.bin, pytorch_model.bin.index.json. The folder is empty."));
  EXPECT_THAT(error_of({"config.json"}), testing::HasSubstr("a config.json, but no weights"));
  EXPECT_THAT(error_of({"model.Q4_K_M.gguf"}), testing::HasSubstr("`model.Q4_K_M.gguf` is a GGUF file"));
  EXPECT_THAT(error_of({"model-00001-of-00002.safetensors"}), testing::HasSubstr("index (*.index.json) is missing"));
  EXPECT_THAT(error_of({"checkpoint-100", "trainer_state.json"}), testing::HasSubstr("`checkpoint-100`"));
  EXPECT_THAT(error_of({"optimizer.pt", "trainer_state.json"}), testing::HasSubstr("training checkpoint"));
  EXPECT_THAT(error_of({"flax_model.msgpack"}), testing::HasSubstr("flax_model.msgpack is of another framework"));
  EXPECT_THAT(error_of({"adapter.safetensors"}), testing::HasSubstr("If `adapter.safetensors` holds the weights"));
}

TEST(Checkpoint, SaysWhatAFileIsInstead) {
  const TempFolder folder;
  EXPECT_ERROR(Checkpoint::open(folder.write("m.gguf", "GGUF\x03")), "a GGUF file (llama.cpp)");
  EXPECT_ERROR(Checkpoint::open(folder.write("m.safetensors", "version https://git-lfs.github.com/spec/v1\noid")),
               "a Git LFS pointer");
  EXPECT_ERROR(Checkpoint::open(folder.write("m.bin", "\x80\x02N.")), "before 1.6");
  EXPECT_ERROR(Checkpoint::open(folder.write("empty.safetensors", "")), "0 bytes are too few");
  EXPECT_ERROR(Checkpoint::open(folder.write("none.safetensors", little_endian(2, 8) + "{}")), "holds no tensor");
  EXPECT_ERROR(Checkpoint::open("/dev/null"), "not a regular file");
}

}  // namespace
}  // namespace molt
