// Journal: outcomes kept in a file as they come, so that a run that was stopped goes on where it was.
//
// A line of JSON an outcome, appended in one write: a killed process loses at most the batch that it was at, and
// several processes may append to one journal (each knows of the others' outcomes what was there when it began).
// Outcomes are found by their setting and by the tokens of their prompt: a run with other tasks, limits or settings
// takes over what it shares with earlier ones.
//
// One thread at a time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/scoring.h"
#include "io/json_file.h"

namespace molt::eval {

class Journal {
 public:
  /// Opens the journal at `path`, or begins one. Throws Error when the file cannot be read or written, is no journal,
  /// or was written with another model, weight or state type, or window.
  Journal(std::string path, const Model& model, std::int64_t window);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// The outcome of a prompt under a setting, or null. `kl`: only one that has the divergence.
  const Outcome* find(const std::string& setting, const Prompt& prompt, bool kl) const;

  /// Appends. Throws Error when it cannot (a full disk).
  void add(const std::string& setting, const Prompt& prompt, const Outcome& outcome);

  /// Outcomes that were there when it was opened.
  std::size_t found() const { return found_; }

 private:
  void read(const std::string& text, const Json& header);
  void append(const std::string& line);

  std::string path_;
  int fd_ = -1;
  std::map<std::string, Outcome> outcomes_;  // by setting and prompt
  std::size_t found_ = 0;
};

}  // namespace molt::eval
