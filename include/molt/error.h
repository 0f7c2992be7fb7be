// molt::Error: the one exception type that molt throws.
//
// Thrown for everything that a user can mend: a missing file, a broken checkpoint, a value out of range. Its message
// says what went wrong, where, which value was met, and what to do. Faults of molt itself are assertions, never errors.
#pragma once

#include <stdexcept>
#include <string>

namespace molt {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace molt
