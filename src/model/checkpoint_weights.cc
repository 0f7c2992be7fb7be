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

}  // namespace molt
