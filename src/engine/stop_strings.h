// StopStrings: finds where a stream of text must end, and holds back what might be the beginning of such an end.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt {

/// The stream ends before the stop string that is complete first; where several end at the same place, before the
/// longest of them. However the stream is cut into pieces, the text is the same.
class StopStrings {
 public:
  /// Empty strings stop nothing.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    std::erase(strings_, std::string());
  }

  /// Takes a piece of the stream and returns the text that is certain to stand before any stop string.
  std::string push(std::string_view piece) {
    if (found_) return {};
    held_ += piece;
    std::size_t stop = std::string::npos;
    std::size_t stop_end = std::string::npos;
    for (const std::string& string : strings_) {
      const std::size_t at = held_.find(string);
      if (at == std::string::npos) continue;
      const std::size_t end = at + string.size();
      if (end > stop_end || (end == stop_end && at > stop)) continue;
      stop = at;
      stop_end = end;
    }
    found_ = stop != std::string::npos;
    std::string certain = held_.substr(0, found_ ? stop : held_.size() - longest_beginning());
    held_.erase(0, certain.size());
    return certain;
  }

  /// What was held back, at the end of the stream.
  std::string flush() { return found_ ? std::string() : std::exchange(held_, {}); }

  /// Whether a stop string has come by.
  bool found() const { return found_; }

 private:
  /// Length of the longest end of held_ that a stop string begins with.
  std::size_t longest_beginning() const {
    std::size_t longest = 0;
    for (const std::string& string : strings_) {
      for (std::size_t n = std::min(string.size() - 1, held_.size()); n > longest; --n) {
        if (std::string_view(held_).ends_with(std::string_view(string).substr(0, n))) longest = n;
      }
    }
    return longest;
  }

  std::vector<std::string> strings_;
  std::string held_;
  bool found_ = false;
};

}  // namespace molt
