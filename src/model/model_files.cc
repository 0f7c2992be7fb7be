#include "model/model_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>

#include "base/fail.h"
#include "base/registry.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "model/quantized_weights.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

/// The dtype that most of a checkpoint's bytes have, but for quantized matrices.
DType main_dtype(const Checkpoint& checkpoint) {
  std::map<DType, std::int64_t> bytes;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (!is_quantized_part(name)) bytes[tensor.dtype()] += tensor.bytes();
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::f32 : most->first;
}

ModelFiles open_folder(const std::string& path) {
  Checkpoint checkpoint = Checkpoint::open(path);
  const std::string config_path = (fs::path(checkpoint.folder()) / "config.json").string();
  std::error_code error;  // other faults than absence are met, and named, on reading
  if (!fs::exists(fs::status(config_path, error))) {
    fail("{}: no config.json beside the weights; a model folder needs one", checkpoint.folder());
  }
  ModelFiles files;
  const bool untied_head =
      checkpoint.find("lm_head.weight") != nullptr || checkpoint.find("lm_head.weight.codes") != nullptr;
  files.spec = read_model_spec(read_json_file(config_path), config_path, untied_head);
  files.dtype = main_dtype(checkpoint) == DType::bf16 ? DType::bf16 : DType::f32;
  const std::string tokenizer = (fs::path(checkpoint.folder()) / "tokenizer.json").string();
  if (fs::exists(fs::status(tokenizer, error))) files.tokenizer = tokenizer;
  files.no_tokenizer = "has no tokenizer.json";
  files.weights = std::make_unique<CheckpointWeights>(std::move(checkpoint));
  return files;
}

}  // namespace

ModelFiles open_model(const std::string& path) {
  for (const auto& [name, format] : Registry<ModelFormat>::instance().entries()) {
    if (format.matches(path)) return format.open(path);
  }
  return open_folder(path);
}

}  // namespace molt
