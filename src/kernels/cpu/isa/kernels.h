// Kernels: the table of the functions that are compiled once per instruction set, on plain pointers.
//
// Who calls them (kernels/cpu/*.cc) knows shapes and threads; who implements them (isa/*.cc) knows neither, only rows of
// floats. select() gives the table for this machine.
#pragma once

#include <stdint.h>

namespace molt {

struct Kernels {
  const char* name;  // "avx512", "avx2", "portable", ...
};

/// The best table that this machine can run, or the one that use_isa() named.
const Kernels& select_kernels();

}  // namespace molt
