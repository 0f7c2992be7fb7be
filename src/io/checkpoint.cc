#include "io/checkpoint.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/fail.h"
#include "io/gguf.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "io/torch_zip.h"
#include "io/untrusted.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, Tensor>;
using MappedFiles = std::vector<std::shared_ptr<const MmapFile>>;

constexpr std::array<const char*, 4> kKnownFiles = {"model.safetensors", "model.safetensors.index.json",
                                                    "pytorch_model.bin", "pytorch_model.bin.index.json"};

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

/// The tensors of one file of weights, which joins `files`. Its name decides the format; its first bytes where the name
/// does not.
Tensors read_weights(const std::string& path, MappedFiles& files) {
  const auto file = files.emplace_back(MmapFile::open(path));
  const auto bytes = file->bytes();
  if (is_gguf(bytes)) {
    fail(
        "{}: a GGUF file (llama.cpp), which holds a whole model; here a file of weights beside a config.json is wanted",
        path);
  }
  if (starts_with(bytes, "version https://git-lfs")) {
    fail("{}: a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`", path);
  }
  const bool named_torch = path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth");
  const bool zip = starts_with(bytes, "PK\x03\x04") && !path.ends_with(".safetensors");
  if (named_torch || zip) return read_torch_zip(bytes, file, path);
  return read_safetensors(bytes, file, path).tensors;
}

/// Whether `name` names a file of the index's own folder and nothing outside of it.
bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

/// Shard file -> the tensors that the index says it holds.
std::map<std::string, std::set<std::string>> read_index(const std::string& path) {
  const Json index = read_json_file(path, {.duplicate_keys = false});
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || weight_map == index.end() || !weight_map->is_object()) {
    fail("{}: an index of shards must be an object with an object \"weight_map\"", path);
  }
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string()) {
      fail("{}: the shard of tensor {} must be a file name, not {}", path, quote(tensor), describe(shard));
    }
    const auto& file = shard.get_ref<const std::string&>();
    if (!is_plain_file_name(file)) {
      fail("{}: tensor {} is said to lie in {}; a shard must be a plain file name in the same folder", path,
           quote(tensor), quote(file));
    }
    shards[file].insert(tensor);
  }
  if (shards.empty()) fail("{}: \"weight_map\" lists no tensor", path);
  return shards;
}

Tensors read_shards(const std::string& index, const std::map<std::string, std::set<std::string>>& shards,
                    MappedFiles& files) {
  Tensors all;
  std::map<std::string, std::string> shard_of;
  for (const auto& [file, listed] : shards) {
    const std::string path = (fs::path(index).parent_path() / file).string();
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
      fail("{}: the shard does not exist, though {} lists it: fetch it, the download is not complete", path, index);
    }
    Tensors tensors = read_weights(path, files);
    for (const std::string& name : listed) {
      if (!tensors.contains(name))
        fail("{}: tensor {} is missing, though {} says it is here", path, quote(name), index);
    }
    for (auto& [name, tensor] : tensors) {
      const auto [first, fresh] = shard_of.emplace(name, path);
      if (!fresh) fail("{}: tensor {} lies in {} as well: which one counts?", path, quote(name), first->second);
      if (!listed.contains(name)) {
        fail("{}: tensor {} is not listed by {}: index and shards do not belong together", path, quote(name), index);
      }
      all.emplace(name, std::move(tensor));
    }
  }
  return all;
}

/// What a folder without weights seems to be, as a sentence for the message, or "".
std::string guess_folder(const fs::path& folder) {
  std::error_code error;
  std::set<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.insert(it->path().filename().string());
    if (names.size() >= 10'000) break;
  }
  const auto first = [&names](auto&& matches) {
    for (const std::string& name : names) {
      if (matches(name)) return name;
    }
    return std::string();
  };
  if (names.empty()) return " The folder is empty.";
  if (const auto gguf = first([](const std::string& n) { return n.ends_with(".gguf"); }); !gguf.empty()) {
    return fmt::format(" {} is a GGUF file (llama.cpp), a whole model: name that file.", quote(gguf));
  }
  const auto shard =
      first([](const std::string& n) { return n.starts_with("model-00") || n.starts_with("pytorch_model-0"); });
  if (!shard.empty()) {
    return fmt::format(" {} is a shard, but its index (*.index.json) is missing: fetch it too.", quote(shard));
  }
  const auto saved = first([](const std::string& n) { return n.starts_with("checkpoint-"); });
  if (!saved.empty())
    return fmt::format(" It seems to be a training run's folder: open one in it, as {}.", quote(saved));
  if (names.contains("optimizer.pt") || names.contains("trainer_state.json") || names.contains("latest")) {
    return " It seems to be a training checkpoint that was saved without its model: export the model first.";
  }
  for (const char* other : {"tf_model.h5", "flax_model.msgpack", "model.onnx", "consolidated.00.pth"}) {
    if (names.contains(other)) return fmt::format(" {} is of another framework: convert it to safetensors.", other);
  }
  const auto weights = first([](const std::string& n) {
    return n.ends_with(".safetensors") || n.ends_with(".bin") || n.ends_with(".pt") || n.ends_with(".pth");
  });
  if (!weights.empty()) return fmt::format(" If {} holds the weights, name that file.", quote(weights));
  if (names.contains("snapshots") && names.contains("refs")) {
    return " It seems to be a cache entry of the Hugging Face hub: open the folder below snapshots/.";
  }
  if (names.contains("config.json")) return " There is a config.json, but no weights: fetch them too.";
  return "";
}

std::string find_weights(const fs::path& folder) {
  std::error_code error;
  std::string looked_for;
  for (const char* name : kKnownFiles) {
    if (fs::exists(folder / name, error)) return (folder / name).string();
    looked_for += fmt::format("{}{}", looked_for.empty() ? "" : ", ", name);
  }
  fail("{}: no model in this folder; looked for {}.{}", folder.string(), looked_for, guess_folder(folder));
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& folder_or_file) {
  std::error_code error;
  const fs::file_status status = fs::status(folder_or_file, error);
  if (status.type() == fs::file_type::not_found) {
    fail("{}: does not exist; name the folder of a model, or a .safetensors or .bin file", quote(folder_or_file));
  }
  if (error) fail("{}: cannot open: {}", folder_or_file, error.message());

  const std::string file = fs::is_directory(status) ? find_weights(folder_or_file) : folder_or_file;
  Checkpoint checkpoint;
  const fs::path parent = fs::path(file).parent_path();
  checkpoint.folder_ = (parent.empty() ? fs::path(".") : parent).string();
  checkpoint.source_ = file;
  if (file.ends_with(".index.json")) {
    const auto shards = read_index(file);
    checkpoint.tensors_ = read_shards(file, shards, checkpoint.files_);
    checkpoint.index_ = file;
    checkpoint.source_ += fmt::format(" ({} shard{})", shards.size(), shards.size() == 1 ? "" : "s");
  } else {
    checkpoint.tensors_ = read_weights(file, checkpoint.files_);
  }
  if (checkpoint.tensors_.empty()) fail("{}: holds no tensor", file);
  return checkpoint;
}

void Checkpoint::drop_pages() const {
  for (const auto& file : files_) file->drop_pages();
}

const Tensor* Checkpoint::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const Tensor& Checkpoint::at(const std::string& name) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) fail("{}: the tensor {} is missing", source_, quote(name));
  return *tensor;
}

}  // namespace molt
