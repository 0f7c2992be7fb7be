// Where the time of a prefill or a decode step goes, op by op, and how near each op comes to what the machine can do.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "ceilings.h"
#include "kernels/timed_backend.h"

namespace molt::cli {

/// One piece of work: how long it took, and its ops, if the model's backend times them.
struct Timing {
  double seconds = 0;
  std::vector<OpTotal> ops;
};

/// Runs from its making on.
class Stopwatch {
 public:
  explicit Stopwatch(const Backend& backend);
  Timing stop() const;

 private:
  const TimedBackend* timed_;  // null for a backend that times nothing
  std::chrono::steady_clock::time_point start_;
};

/// One op's part of the whole.
struct OpShare {
  OpTotal total;
  double share = 0;  // of the whole's time
  // The ceiling that binds it: "read", "matmul", or for what is no product "matmul f32"; empty if none was measured.
  const char* bound = "";
  double of_bound = 0;  // what the op needed at the least, at that ceiling's rate, of the time that it took
};

/// A whole, the longest part first. The shares and `other`, what no op took, add up to 1.
struct OpTimes {
  double seconds = 0;
  std::vector<OpShare> ops;
  double other = 0;  // share
};

/// `timing` of `repeats` equal pieces of work, as that of one piece. `ceilings`: null if not measured.
OpTimes op_times(const Timing& timing, std::int64_t repeats, const Ceilings* ceilings);

nlohmann::json to_json(const OpTimes& times);

/// Prints the table on standard output.
void print(const OpTimes& times);

}  // namespace molt::cli
