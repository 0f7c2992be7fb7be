// safetensors: a JSON header and the tensors' bytes behind it (github.com/huggingface/safetensors, README, "Format").
//
//   8 bytes  N, little-endian
//   N bytes  {"__metadata__": {name: text}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
//   rest     data; the tensors cover it wholly, without holes or overlaps
//
// Reading maps the file and copies nothing (but tensors that are not aligned for their elements). Everything in the
// header is checked before the first tensor is handed out; what the official reader refuses is refused here, and
// repeated names too. Tensors stay valid as long as one of them, or the owner given, lives.
//
// Thread-safety: free functions without state.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace molt {

struct SafetensorsFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Maps and reads the file at `path`. Throws Error naming the path, the tensor and the value at fault.
SafetensorsFile read_safetensors(const std::string& path);

/// Reads a file's bytes, which `owner` keeps alive; `name` stands in messages.
SafetensorsFile read_safetensors(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                                 const std::string& name);

/// Writes `tensors` in the order given, atomically: on an Error (disk full, say) the file at `path` is what it was.
/// Names must differ and must not be "__metadata__". Pass tensors by falling element size to keep all of them aligned.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace molt
