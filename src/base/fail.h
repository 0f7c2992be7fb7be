// fail("...{}...", values): throws molt::Error with a formatted message.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "molt/error.h"

namespace molt {

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace molt
