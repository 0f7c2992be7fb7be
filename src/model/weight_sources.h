// Where weights come from: a checkpoint on disk, a GGUF file, or a generator of random ones for measuring speed.
#pragma once

#include <cstdint>
#include <string>

#include "io/checkpoint.h"
#include "io/gguf.h"
#include "model/weights.h"

namespace molt {

/// The tensors of an opened checkpoint, which it keeps alive.
class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override;
  bool has(const std::string& name) const override;
  std::vector<std::string> names() const override;
  void drop_pages() const override { checkpoint_.drop_pages(); }
  std::string description() const override;
  std::map<std::string, StoredType> stored_types() const override;

 private:
  Checkpoint checkpoint_;
};

/// The tensors of a GGUF file, which it keeps alive. Floats stay where they lie; quantized tensors become float32 when
/// they are asked for, one at a time. Shapes are taken to be those asked for where they differ only by extents of one,
/// or where a vector is stored as several rows.
class GgufWeights final : public WeightSource {
 public:
  explicit GgufWeights(GgufFile file) : file_(std::move(file)) {}

  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override;
  bool has(const std::string& name) const override;
  std::vector<std::string> names() const override;
  Tensor stored(const std::string& name) const override;
  void drop_pages() const override;
  std::string description() const override { return file_.name; }
  std::map<std::string, StoredType> stored_types() const override;

 private:
  GgufFile file_;
};

/// Tensors of whatever name and shape is asked for, distributed as Mamba initialises them, so that a random model
/// behaves numerically like a fresh one. The same name and seed give the same tensor.
class RandomWeights final : public WeightSource {
 public:
  RandomWeights(std::string description, std::uint64_t seed) : description_(std::move(description)), seed_(seed) {}

  std::optional<Tensor> find(const std::string& name, const Shape& shape) const override;
  bool has(const std::string& name) const override;
  std::vector<std::string> names() const override;
  std::string description() const override { return description_; }

 private:
  std::string description_;
  std::uint64_t seed_;
};

}  // namespace molt
