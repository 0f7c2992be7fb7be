// StateLayout: where each layer's parts lie in the memory of one sequence's state, and in which precision; and where
// its keys and values lie in each block of those.
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

  /// The keys and values of one layer.
  struct Kv {
    std::string name;  // "layers.3."
    KvShape shape;
    std::int64_t offset;  // bytes from the beginning of a block
  };

  DType ssm = DType::f32;  // f32 or bf16: of the parts that may be either
  std::vector<Part> parts = {};
  std::vector<std::int64_t> layer_offsets = {};  // bytes, where each layer's parts begin
  std::int64_t bytes = 0;                        // of the whole state but for keys and values, padding included
  std::vector<Kv> kv = {};                       // of the layers that have some
  std::vector<std::int64_t> kv_offsets = {};     // bytes in a block, of every layer
  std::int64_t kv_block_bytes = 0;               // of a block of kKvBlock tokens

  /// Bytes of the keys and values of a token.
  std::int64_t kv_token_bytes() const {
    std::int64_t floats = 0;
    for (const Kv& layer : kv) floats += 2 * layer.shape.channels();
    return floats * size_of(DType::f32);
  }

  /// Appends a layer.
  void add(const std::vector<StatePart>& layer_parts, const KvShape& kv_shape) {
    const std::string prefix = "layers." + std::to_string(layer_offsets.size()) + ".";
    layer_offsets.push_back(bytes);
    kv_offsets.push_back(kv_block_bytes);
    if (kv_shape.heads > 0) kv.push_back({prefix, kv_shape, kv_block_bytes});
    kv_block_bytes += kv_shape.block_bytes();
    for (const StatePart& part : layer_parts) {
      parts.push_back({prefix + part.name, part.shape, part.dtype(ssm), bytes});
      bytes += part.bytes(ssm);
    }
  }
};

}  // namespace molt
