// Puts back what a test changed for the whole process.
#pragma once

#include <string>

#include "base/parallel.h"
#include "kernels/cpu/select.h"

namespace molt::testing_kernels {

/// Restores the instruction set and the number of threads that a test changed.
class Restore {
 public:
  Restore() = default;
  ~Restore() {
    use_isa(isa_);
    set_num_threads(threads_);
  }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  std::string isa_ = select_kernels().name;
  int threads_ = num_threads();
};

}  // namespace molt::testing_kernels
