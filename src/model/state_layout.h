// StateLayout: where each layer's parts lie in the memory of one sequence's state, and in which precision.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/block.h"

namespace molt {

struct StateLayout {
  struct Part {
    std::string name;  // "layers.3.ssm"
    Shape shape;
    DType dtype;          // f32 or bf16
    std::int64_t offset;  // bytes from the beginning of the state
  };

  DType ssm = DType::f32;  // f32 or bf16: of the parts that may be either
  std::vector<Part> parts = {};
  std::vector<std::int64_t> layer_offsets = {};  // bytes, where each layer's parts begin
  std::int64_t bytes = 0;                        // of the whole state, padding included

  /// Appends a layer.
  void add(const std::vector<StatePart>& layer_parts) {
    const std::string prefix = "layers." + std::to_string(layer_offsets.size()) + ".";
    layer_offsets.push_back(bytes);
    for (const StatePart& part : layer_parts) {
      parts.push_back({prefix + part.name, part.shape, part.dtype(ssm), bytes});
      bytes += part.bytes(ssm);
    }
  }
};

}  // namespace molt
