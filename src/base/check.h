// MOLT_CHECK(condition): an assertion about molt's own correctness, kept in release builds.
//
// A failed check is a bug of molt: it prints where and aborts. What a user can cause is reported through fail()
// instead. Checks stand at the edges of ops (shapes, strides), never inside their loops.
#pragma once

namespace molt {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace molt

#define MOLT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::molt::check_failed(#condition, __FILE__, __LINE__))
