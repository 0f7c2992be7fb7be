#include "model/weight_sources.h"

namespace molt {

std::optional<Tensor> CheckpointWeights::find(const std::string& name, const Shape& /*shape*/) const {
  const Tensor* tensor = checkpoint_.find(name);
  return tensor == nullptr ? std::nullopt : std::optional(*tensor);
}

bool CheckpointWeights::has(const std::string& name) const {
  return checkpoint_.find(name) != nullptr;
}

std::vector<std::string> CheckpointWeights::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : checkpoint_.tensors()) names.push_back(name);
  return names;
}

std::string CheckpointWeights::description() const {
  return checkpoint_.source();
}

std::map<std::string, StoredType> CheckpointWeights::stored_types() const {
  std::map<std::string, StoredType> types;
  for (const auto& [name, tensor] : checkpoint_.tensors()) {
    StoredType& type = types[std::string(name_of(tensor.dtype()))];
    ++type.tensors;
    type.bytes += tensor.bytes();
  }
  return types;
}

}  // namespace molt
