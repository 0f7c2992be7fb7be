// Which instruction set's kernels this process uses. Chosen once, at first use; may be forced before that.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/isa/kernels.h"

namespace molt {

/// Names of the instruction sets that were built and that this machine can run, best first; the last is "portable".
std::vector<std::string> available_isas();

/// Makes select_kernels() give the table of that name. Throws Error that lists the available ones. Weights need not be
/// packed anew: all tables share one layout. Must not be called while kernels run.
void use_isa(std::string_view name);

/// The table of that name, for tests that compare them; nullptr when it was not built or this machine cannot run it.
const Kernels* kernels_for(std::string_view name);

}  // namespace molt
