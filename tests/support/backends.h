// Backends that not every build or machine has: tests of them skip where they are not.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kernels/backend.h"
#include "molt/error.h"

namespace molt::testing_support {

/// Why there is no backend of that name here; empty where there is one.
inline std::string why_no_backend(const std::string& name) {
  try {
    make_backend(name);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace molt::testing_support

/// Skips the test where there is no such backend.
#define MOLT_NEEDS_BACKEND(name)                                                             \
  if (const std::string why = ::molt::testing_support::why_no_backend(name); !why.empty()) { \
    GTEST_SKIP() << "the backend " << (name) << " cannot be tested here: " << why;           \
  }
