// StoredState: the state of one sequence of a scan, in whichever precision it lies.
#pragma once

#include "kernels/backend.h"

namespace molt {

class StoredState {
 public:
  StoredState(const ScanRows& rows, std::size_t s)
      : floats_(rows.rounded.empty() ? rows.states[s] : nullptr),
        rounded_(rows.rounded.empty() ? RoundedState() : rows.rounded[s]) {}

  double get(std::int64_t i) const { return floats_ != nullptr ? floats_[i] : rounded_.data[i].to_float(); }

  /// Element i, which stands in `row` of `column` (see random_rounding.h).
  void set(std::int64_t i, std::int64_t column, std::int64_t row, double value) const {
    const auto narrow = static_cast<float>(value);
    if (floats_ != nullptr) {
      floats_[i] = narrow;
    } else {
      rounded_.data[i] =
          round_at_random(narrow, rounded_.key, static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(row));
    }
  }

 private:
  float* floats_;
  RoundedState rounded_;
};

}  // namespace molt
