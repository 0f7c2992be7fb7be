// Progress: a bar on standard error for long work, shown on a terminal only.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "base/fail.h"

namespace molt::cli {

class Progress {
 public:
  explicit Progress(std::string title) : title_(std::move(title)), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total`. Draws at most ten times a second, and nothing for work that ends within half a second.
  void update(std::int64_t done, std::int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || finished_ || now - start_ < std::chrono::milliseconds(500)) return;
    if (now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const std::string bar(static_cast<std::size_t>(share * 30), '#');
    const double left = share > 0 ? elapsed / share - elapsed : 0;
    fmt::print(stderr, "\r\033[K{} [{:<30}] {:3.0f}%  {:.0f} s left", title_, bar, share * 100, left);
    shown_ = true;
  }

  /// Clears the bar.
  void finish() {
    if (shown_ && !finished_) fmt::print(stderr, "\r\033[K");
    finished_ = true;
  }

 private:
  std::string title_;
  bool terminal_;
  bool shown_ = false;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace molt::cli
