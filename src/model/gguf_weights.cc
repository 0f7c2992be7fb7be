#include <algorithm>

#include "io/untrusted.h"
#include "model/weight_sources.h"

namespace molt {
namespace {

Shape without_ones(Shape shape) {
  shape.erase(std::remove(shape.begin(), shape.end(), 1), shape.end());
  return shape;
}

/// The shape to hand out a tensor in: that asked for where it means the same, elsewhere its own.
Shape agreed_shape(const Shape& stored, const Shape& asked) {
  const bool vector = asked.size() == 1 && element_count(stored) == asked[0];
  return vector || without_ones(stored) == without_ones(asked) ? asked : stored;
}

}  // namespace

std::optional<Tensor> GgufWeights::find(const std::string& name, const Shape& shape) const {
  const auto it = file_.tensors.find(name);
  if (it == file_.tensors.end()) return std::nullopt;
  const GgufTensor& tensor = it->second;
  const Shape agreed = agreed_shape(tensor.shape, shape);
  if (tensor.type->dtype) return aligned_view(*tensor.type->dtype, agreed, tensor.data, file_.owner);
  Tensor result = Tensor::uninitialized(DType::f32, agreed);
  dequantize(*tensor.type, tensor.data, result.as<float>());
  return result;
}

bool GgufWeights::has(const std::string& name) const {
  return file_.tensors.contains(name);
}

std::vector<std::string> GgufWeights::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file_.tensors) names.push_back(name);
  return names;
}

Tensor GgufWeights::stored(const std::string& name) const {
  const auto data = file_.tensors.at(name).data;
  return aligned_view(DType::u8, {static_cast<std::int64_t>(data.size())}, data, file_.owner);
}

void GgufWeights::drop_pages() const {
  if (file_.file != nullptr) file_.file->drop_pages();
}

std::map<std::string, StoredType> GgufWeights::stored_types() const {
  std::map<std::string, StoredType> types;
  for (const auto& [name, tensor] : file_.tensors) {
    StoredType& type = types[std::string(tensor.type->name)];
    ++type.tensors;
    type.bytes += static_cast<std::int64_t>(tensor.data.size());
  }
  return types;
}

}  // namespace molt
