// Checkpoint: the tensors of a model's folder by name, whatever files hold them.
//
// Looked for, in this order: model.safetensors, model.safetensors.index.json with its shards, pytorch_model.bin,
// pytorch_model.bin.index.json with its shards. Files are mapped, not read; tensors share their ownership and outlive
// the Checkpoint.
//
// Thread-safety: immutable after opening.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mmap_file.h"
#include "tensor/tensor.h"

namespace molt {

class Checkpoint {
 public:
  /// Opens a folder, or one file of weights in any of the formats, or an index file. Throws Error that says what was
  /// looked for and what was found instead.
  static Checkpoint open(const std::string& folder_or_file);

  /// All tensors by name.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// The tensor `name`, or null.
  const Tensor* find(const std::string& name) const;
  /// The tensor `name`. Throws Error naming it and the source when there is none.
  const Tensor& at(const std::string& name) const;

  /// Where the tensors come from, for messages: "FOLDER/model.safetensors", "FOLDER/... (2 shards)".
  const std::string& source() const { return source_; }
  /// The files that hold them, mapped, and the index that lists these, "" without one.
  const std::vector<std::shared_ptr<const MmapFile>>& files() const { return files_; }
  const std::string& index() const { return index_; }
  /// The folder that holds the files, where config.json and the tokenizer lie too.
  const std::string& folder() const { return folder_; }

  /// Gives back the memory that holds what was read of the files so far (MmapFile::drop_pages()).
  void drop_pages() const;

 private:
  Checkpoint() = default;

  std::vector<std::shared_ptr<const MmapFile>> files_;
  std::map<std::string, Tensor> tensors_;
  std::string source_;
  std::string index_;
  std::string folder_;
};

}  // namespace molt
