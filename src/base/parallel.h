// parallel_for: the one way that molt uses more than one core.
//
// One pool for the process. Work is dealt out in chunks through an atomic counter, so that a thread which another
// process has pushed off its core delays only its own chunk. Waiting spins for some microseconds and then sleeps in the
// kernel: see docs/decisions/threads.md for what was measured.
//
// Thread-safety: parallel_for may be called from any thread; while one call has the pool, others run on their own
// thread. Results of molt's kernels do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "molt/threads.h"

namespace molt {

/// A non-owning reference to a callable void(int64_t begin, int64_t end).
class RangeFunction {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, RangeFunction>)
      RangeFunction(F&& f)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload): constrained
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Calls body(begin, end) on disjoint ranges that cover [0, n), each of at most `grain` indices, on up to num_threads()
/// threads, and returns when all are done. The first exception thrown by a body is rethrown here.
void parallel_for(std::int64_t n, std::int64_t grain, RangeFunction body);

}  // namespace molt
