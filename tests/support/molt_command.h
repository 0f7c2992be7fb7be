// molt(): runs the molt tool. And what every refusal of bad input must look like.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/process.h"

namespace molt::testing_support {

inline Finished molt(std::vector<std::string> arguments, const CommandOptions& options = {}) {
  arguments.insert(arguments.begin(), MOLT_BINARY);
  return run_command(arguments, options);
}

/// Done: exit code 0.
inline testing::AssertionResult succeeds(const Finished& f) {
  if (f.code == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "wanted success\n" << f;
}

/// Refused as the user can mend it: exit code 2, nothing on standard output, and every one of `parts` in the message.
inline testing::AssertionResult is_refused(const Finished& f, const std::vector<std::string>& parts) {
  if (f.code != 2) return testing::AssertionFailure() << "wanted exit code 2\n" << f;
  if (!f.out.empty()) return testing::AssertionFailure() << "wanted nothing on standard output\n" << f;
  for (const std::string& part : parts) {
    if (f.err.find(part) == std::string::npos) {
      return testing::AssertionFailure() << "the message lacks \"" << part << "\"\n" << f;
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace molt::testing_support
