// MmapFile: a file mapped read-only into memory.
//
// The bytes are valid as long as any copy of the shared pointer lives. Shrinking the file on disk while it is mapped is
// the one thing that mmap cannot survive (SIGBUS); checkpoints are not edited in place, so molt accepts that.
// Thread-safety: immutable after opening.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace molt {

class MmapFile {
 public:
  /// Maps `path`. Throws Error when it does not exist, is no regular file or cannot be read. An empty file gives an
  /// empty span.
  static std::shared_ptr<const MmapFile> open(const std::string& path);

  ~MmapFile();
  MmapFile(const MmapFile&) = delete;
  MmapFile& operator=(const MmapFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  /// Gives back the memory that holds what was read so far. The bytes stay valid: what is read again is fetched again,
  /// as a rule from the system's cache.
  void drop_pages() const;

 private:
  MmapFile(std::string path, std::span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}

  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace molt
