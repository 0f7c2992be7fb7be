// Copies of a model's files with some tensors replaced: single files, shards, PyTorch archives.
#include "io/checkpoint_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "io/crc32.h"
#include "io/safetensors.h"
#include "io/untrusted.h"
#include "io/zip_archive.h"
#include "molt/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace molt {
namespace {

using testing::HasSubstr;
using testing_support::fixture;
using testing_support::read_file;
using testing_support::TempFolder;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

/// Every second byte of a tensor inverted.
Tensor changed(const Tensor& tensor) {
  Tensor other = tensor.clone();
  for (std::int64_t i = 0; i < other.bytes(); i += 2) other.data()[i] = ~other.data()[i];
  return other;
}

std::map<std::string, Tensor> changed_matrices(const Checkpoint& checkpoint) {
  std::map<std::string, Tensor> replaced;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (name.ends_with("proj.weight")) replaced.emplace(name, changed(tensor));
  }
  EXPECT_GE(replaced.size(), 4U);
  return replaced;
}

void expect_copied(const Checkpoint& before, const std::map<std::string, Tensor>& replaced, const Checkpoint& after) {
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  for (const auto& [name, tensor] : before.tensors()) {
    const auto it = replaced.find(name);
    EXPECT_TRUE(same(after.at(name), it == replaced.end() ? tensor : it->second)) << name;
  }
}

TEST(CopyCheckpoint, KeepsTheFormat) {
  for (const char* name : {"mamba1-tiny", "mamba2-tiny", "mamba1-tiny-mamba_ssm", "mamba2-tiny-mamba_ssm"}) {
    const TempFolder folder;
    const Checkpoint before = Checkpoint::open(fixture("tiny/") + name);
    const auto replaced = changed_matrices(before);
    copy_checkpoint(before, replaced, folder.path());
    EXPECT_EQ(folder.count(), 1U);
    expect_copied(before, replaced, Checkpoint::open(folder.path()));
  }
}

TEST(CopyCheckpoint, KeepsShardsAndMetadata) {
  const TempFolder from;
  const TempFolder to;
  const Checkpoint whole = Checkpoint::open(fixture("tiny/mamba2-tiny"));
  std::vector<std::pair<std::string, Tensor>> shards[2];
  std::string map;
  for (const auto& [name, tensor] : whole.tensors()) {
    const std::size_t i = shards[0].size() > shards[1].size() ? 1 : 0;
    shards[i].emplace_back(name, tensor);
    map += (map.empty() ? "\"" : ", \"") + name + "\": \"model-" + std::to_string(i) + ".safetensors\"";
  }
  for (int i = 0; i < 2; ++i) {
    write_safetensors(from / ("model-" + std::to_string(i) + ".safetensors"), shards[i],
                      {{"shard", std::to_string(i)}});
  }
  from.write("model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  const Checkpoint before = Checkpoint::open(from.path());
  const auto replaced = changed_matrices(before);
  copy_checkpoint(before, replaced, to.path());
  expect_copied(before, replaced, Checkpoint::open(to.path()));
  EXPECT_EQ(read_safetensors(to / "model-1.safetensors").metadata.at("shard"), "1");
}

// Of an archive nothing changes but values and checksums, and these are right.
TEST(CopyCheckpoint, KeepsArchivesSound) {
  const TempFolder folder;
  const Checkpoint before = Checkpoint::open(fixture("tiny/mamba2-tiny-mamba_ssm"));
  copy_checkpoint(before, changed_matrices(before), folder.path());
  const std::string archive = read_file(folder / "pytorch_model.bin");
  const std::string original = read_file(before.source());
  ASSERT_EQ(archive.size(), original.size());
  const auto places = zip_checksums(bytes_of(archive), "archive");
  for (const auto& [name, data] : read_zip(bytes_of(archive), "archive")) {
    ASSERT_GE(places.at(name).size(), 2U) << name;  // PyTorch writes them in the directory and behind the data
    for (const std::size_t place : places.at(name)) {
      EXPECT_EQ(load_little_endian<std::uint32_t>(bytes_of(archive), place), crc32(data)) << name;
    }
  }
  copy_checkpoint(before, {}, folder.path());
  EXPECT_EQ(read_file(folder / "pytorch_model.bin"), original);
}

TEST(Crc32, IsThatOfZip) {
  EXPECT_EQ(crc32(bytes_of("")), 0U);
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926U);
  EXPECT_EQ(crc32(bytes_of("6789"), crc32(bytes_of("12345"))), 0xcbf43926U);
}

}  // namespace
}  // namespace molt
