// StateLayout: where each layer's parts lie in the memory of one sequence's state.
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
    std::int64_t offset;  // floats from the beginning of the state
  };

  std::vector<Part> parts;
  std::vector<std::int64_t> layer_offsets;  // floats, where each layer's parts begin
  std::int64_t floats = 0;                  // of the whole state, padding included

  /// Appends a layer.
  void add(const std::vector<StatePart>& layer_parts) {
    const std::string prefix = "layers." + std::to_string(layer_offsets.size()) + ".";
    layer_offsets.push_back(floats);
    for (const StatePart& part : layer_parts) {
      parts.push_back({prefix + part.name, part.shape, floats});
      floats += part_floats(part);
    }
  }

  std::int64_t bytes() const { return floats * size_of(DType::f32); }
};

}  // namespace molt
