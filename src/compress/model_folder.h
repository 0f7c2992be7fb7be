// Model folders as compression reads and writes them.
#pragma once

#include <string>

#include "io/checkpoint.h"
#include "model/architecture.h"

namespace molt {

/// A folder that is filled under a temporary name beside its own, and removed unless commit() is reached.
class NewFolder {
 public:
  /// Throws Error when `path` exists, or when no folder can be made beside it.
  explicit NewFolder(const std::string& path);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Where it lies until then.
  const std::string& temporary() const { return temporary_; }

  /// The path of a file in it.
  std::string file(const std::string& name) const;

  /// Gives it its name. Throws Error.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool done_ = false;
};

/// `path` without slashes at its end, at which nothing exists. Throws Error when something does.
std::string fresh_path(std::string path);

/// Copies what belongs to a model beside its weights (configuration, tokenizer, licence, how it was pruned). Throws
/// Error.
void copy_companions(const std::string& folder, const NewFolder& to);

/// The configuration in the checkpoint's folder. Throws Error.
ModelSpec spec_of(const Checkpoint& checkpoint);

/// Throws Error when the checkpoint holds quantized matrices, or its configuration is not there.
void refuse_quantized(const Checkpoint& checkpoint);

}  // namespace molt
