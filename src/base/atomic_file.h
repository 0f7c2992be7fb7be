// AtomicFile: writes a file under a temporary name beside it and renames it into place.
//
// Readers see the old file or the whole new one, never a part: a full disk, a crash or an exception before commit()
// leaves the old file as it was and removes the temporary one. Not thread-safe; one writer an object.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace molt {

class AtomicFile {
 public:
  /// Creates the temporary file in the folder of `path`. Throws Error when it cannot.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. Throws Error (disk full, say).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Flushes to disk and renames to the final path. Nothing may be written afterwards.
  void commit();

 private:
  [[noreturn]] void give_up(std::string_view action, int error);

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

/// Writes the whole of `text` to `path`, atomically.
void write_file(const std::string& path, std::string_view text);

}  // namespace molt
