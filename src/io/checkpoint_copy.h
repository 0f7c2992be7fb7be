// copy_checkpoint(): a model's files of weights once more, some tensors with other values.
#pragma once

#include <map>
#include <string>

#include "io/checkpoint.h"

namespace molt {

/// Writes the files of `checkpoint` into `folder` under their own names: the same tensors in the same dtypes, in the
/// same formats and shards, with `replaced` (of the same dtypes and shapes) in place of some. A PyTorch archive is
/// copied byte for byte but for the replaced values and their checksums, so that what else it holds stays. Memory: none
/// to speak of beyond `replaced`. Throws Error when a file cannot be written, or when a tensor of a PyTorch archive
/// shares its values with another or lies there strided, so that it cannot be replaced.
void copy_checkpoint(const Checkpoint& checkpoint, const std::map<std::string, Tensor>& replaced,
                     const std::string& folder);

}  // namespace molt
