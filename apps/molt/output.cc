#include "output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "base/atomic_file.h"
#include "base/fail.h"

namespace molt::cli {
namespace {

/// Whether standard output is a pipe or socket that nobody reads any more.
bool reader_has_gone() {
  struct pollfd output {
    STDOUT_FILENO, 0, 0
  };
  return ::poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

}  // namespace

void check_output(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  // Devices and pipes are left alone: whoever reads a pipe would see it open and end.
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status)) return;
  const AtomicFile file(path);  // goes away again without a commit
}

void finish_standard_output() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0 && std::cout.flush().good();
  const int error = errno;
  if (flushed || reader_has_gone()) return;
  fail("cannot write to standard output{}{}", error != 0 ? ": " : "", error != 0 ? std::strerror(error) : "");
}

}  // namespace molt::cli
