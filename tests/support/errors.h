// What errors say.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "molt/error.h"

namespace molt::testing_support {

/// The message of the Error that `body` throws; a failure of the test if it throws none.
std::string message_of(auto&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace molt::testing_support
