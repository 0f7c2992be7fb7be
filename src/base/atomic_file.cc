#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/fail.h"

namespace molt {

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  // A device such as /dev/null or /dev/full must be written in place: renaming over it would replace the device.
  struct stat info {};
  if (::stat(path_.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) fail("{}: is a directory; name a file to write", path_);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail("{}: cannot open for writing: {}", path_, std::strerror(errno));
    return;
  }
  temporary_ = path_ + ".XXXXXX";
  fd_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (fd_ < 0) {
    const int error = errno;
    temporary_.clear();
    fail("{}: cannot create: {}", path_, std::strerror(error));
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(fd_, 0666 & ~mask);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::give_up(std::string_view action, int error) {
  fail("{}: cannot {}: {} (nothing was changed)", path_, action, std::strerror(error));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) give_up("write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  const bool in_place = temporary_.empty();
  if (!in_place && ::fsync(fd_) != 0) give_up("flush", errno);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) give_up("close", errno);
  if (in_place) return;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) give_up("rename into place", errno);
  temporary_.clear();
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace molt
