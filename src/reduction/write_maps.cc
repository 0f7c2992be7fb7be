#include "reduction/write_maps.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/fail.h"

namespace molt {
namespace {

constexpr const char* kFormat = "molt-write-maps-1";

std::string metadata_of(const SafetensorsFile& file, const char* key) {
  const auto it = file.metadata.find(key);
  return it == file.metadata.end() ? std::string() : it->second;
}

}  // namespace

std::string to_string(const WriteMapKey& key) {
  return fmt::format("{}.{}.{}.{}", key.rule, key.from, key.to, key.letter);
}

WriteMaps::WriteMaps(const std::string& path, const ModelCore& model)
    : path_(path), model_(model), file_(read_safetensors(path)) {
  if (metadata_of(file_, "format") != kFormat) {
    fail("{}: holds no write maps (its metadata lacks \"{}\"); molt tune makes them", path, kFormat);
  }
  const std::string made_for = metadata_of(file_, "model");
  if (made_for != model.fingerprint()) {
    fail("{}: made for another model ({}, this one is {}); run molt tune on this one", path, made_for,
         model.fingerprint());
  }
}

void WriteMaps::check_replaceable(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return;
  bool holds_maps = false;
  try {
    holds_maps = metadata_of(read_safetensors(path), "format") == kFormat;
  } catch (const Error&) {  // whatever it is
  }
  if (!holds_maps) fail("{}: this file, which holds no write maps, would be replaced by some; give another name", path);
}

std::shared_ptr<const WriteMap> WriteMaps::get(const WriteMapKey& key) {
  const auto known = packed_.find(key);
  if (known != packed_.end()) return known->second;
  const std::string prefix = to_string(key) + ".";
  const auto find = [&](const char* name) {
    const auto it = file_.tensors.find(prefix + name);
    return it == file_.tensors.end() ? Tensor() : it->second;
  };
  WriteMapTensors tensors{find("weight"), find("bias"), {}};
  if (tensors.weight.empty() || tensors.bias.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file_.tensors) {
      if (name.ends_with(".weight")) names.push_back(name.substr(0, name.size() - std::string(".weight").size()));
    }
    fail("{}: holds no map {} (rule.from.to.letter); it has {}", path_, to_string(key), fmt::join(names, ", "));
  }
  const Tensor heads = find("heads");
  if (!heads.empty()) {
    if (heads.dtype() != DType::i32) fail("{}: {}heads is {}, not i32", path_, prefix, name_of(heads.dtype()));
    tensors.heads.assign(heads.as<std::int32_t>(), heads.as<std::int32_t>() + heads.size());
  }
  return packed_[key] = pack(tensors, key, model_, path_);
}

std::shared_ptr<const WriteMap> WriteMaps::pack(const WriteMapTensors& tensors, const WriteMapKey& key,
                                                const ModelCore& model, const std::string& where) {
  const std::string name = fmt::format("{}: map {}", where, to_string(key));
  if (key.from < 0 || key.to < key.from || key.to >= model.config().n_layer) {
    fail("{}: the model has {} blocks", name, model.config().n_layer);
  }
  const Block& block = model.block(key.to);
  const auto in_order = std::adjacent_find(tensors.heads.begin(), tensors.heads.end(), std::greater_equal<>());
  if (in_order != tensors.heads.end() ||
      (!tensors.heads.empty() && (tensors.heads.front() < 0 || tensors.heads.back() >= block.heads()))) {
    fail("{}: its heads must ascend and lie below {}", name, block.heads());
  }
  const std::int64_t outputs = block.write_outputs(tensors.heads);
  const auto check = [&](const Tensor& tensor, const char* part, const Shape& shape) {
    if (tensor.shape() != shape || (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16)) {
      fail("{}: {} is {} {}, wanted {}", name, part, name_of(tensor.dtype()), to_string(tensor.shape()),
           to_string(shape));
    }
  };
  auto map = std::make_shared<WriteMap>();
  check(tensors.weight, "weight", {outputs, model.config().d_model});
  check(tensors.bias, "bias", {outputs});
  map->weight = model.backend().pack(tensors.weight, model.dtype());
  map->bias = model.backend().memory().place(tensors.bias.to_f32());
  map->heads = tensors.heads;
  return map;
}

void WriteMaps::save(const std::string& path, const std::map<WriteMapKey, WriteMapTensors>& maps,
                     const ModelCore& model) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  const auto matrix = [&](const Tensor& t) { return model.dtype() == DType::bf16 ? t.to_bf16() : t; };
  for (const auto& [key, map] : maps) {
    const std::string prefix = to_string(key) + ".";
    tensors.emplace_back(prefix + "weight", matrix(map.weight));
    tensors.emplace_back(prefix + "bias", map.bias);
    if (map.heads.empty()) continue;
    Tensor heads = Tensor::uninitialized(DType::i32, {static_cast<std::int64_t>(map.heads.size())});
    std::copy(map.heads.begin(), map.heads.end(), heads.as<std::int32_t>());
    tensors.emplace_back(prefix + "heads", heads);
  }
  write_safetensors(path, tensors, {{"format", kFormat}, {"model", model.fingerprint()}});
}

}  // namespace molt
