#include "compress/model_folder.h"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <system_error>

#include "base/fail.h"
#include "io/json_file.h"
#include "model/quantized_weights.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 11> kCopied = {"config.json",
                                                 "generation_config.json",
                                                 "tokenizer.json",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "added_tokens.json",
                                                 "chat_template.jinja",
                                                 "LICENSE",
                                                 "pruning.json"};

}  // namespace

NewFolder::NewFolder(const std::string& path)
    : path_(fresh_path(path)), temporary_(fmt::format("{}.tmp-{}", path_, ::getpid())) {
  std::error_code error;
  fs::create_directory(temporary_, error);
  if (error) fail("{}: cannot create the folder: {}", temporary_, error.message());
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(temporary_, ignored);
}

std::string NewFolder::file(const std::string& name) const {
  return (fs::path(temporary_) / name).string();
}

void NewFolder::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) fail("{}: cannot rename {} to it: {}", path_, temporary_, error.message());
  done_ = true;
}

std::string fresh_path(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  std::error_code error;
  if (fs::exists(fs::symlink_status(path, error))) {
    fail("{}: exists already; name a new folder, or remove that one first", path);
  }
  return path;
}

void copy_companions(const std::string& folder, const NewFolder& to) {
  for (const char* name : kCopied) {
    const fs::path source = fs::path(folder) / name;
    std::error_code error;
    if (!fs::is_regular_file(source, error)) continue;
    fs::copy_file(source, to.file(name), error);
    if (error) fail("{}: cannot copy to {}: {}", source.string(), to.file(name), error.message());
  }
}

ModelSpec spec_of(const Checkpoint& checkpoint) {
  const std::string config = (fs::path(checkpoint.folder()) / "config.json").string();
  return read_model_spec(read_json_file(config), config, checkpoint.find("lm_head.weight") != nullptr);
}

void refuse_quantized(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (is_quantized_part(name)) fail("{}: is quantized already: start from the original model", checkpoint.source());
  }
}

}  // namespace molt
