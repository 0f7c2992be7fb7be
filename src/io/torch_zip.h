// PyTorch checkpoints as torch.save writes them since version 1.6: a zip archive of uncompressed entries.
//
//   NAME/data.pkl   a pickle of the state dict, in which tensors refer to storages by key
//   NAME/data/KEY   the bytes of a storage
//   NAME/byteorder  "little" (or absent)
//
// Reading maps the file; a contiguous tensor is a view of its storage's bytes. No code in the pickle is ever run: the
// unpickler knows the few functions that rebuild tensors, by name, and refuses every other (io/unpickler.h).
//
// Thread-safety: free functions without state.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace molt {

/// The tensors of the state dict in the file at `path`; a dict that holds it under "state_dict", "model" or "module" is
/// looked into, and entries that are no tensors are left out. Throws Error naming the path and what is wrong.
std::map<std::string, Tensor> read_torch_zip(const std::string& path);

/// Reads a file's bytes, which `owner` keeps alive; `name` stands in messages.
std::map<std::string, Tensor> read_torch_zip(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                             const std::string& name);

}  // namespace molt
