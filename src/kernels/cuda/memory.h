// The memory of the device, as Memory. Plain allocations: what is asked for is what is taken.
#pragma once

#include "tensor/memory.h"

namespace molt::cuda {

const Memory& device_memory();

}  // namespace molt::cuda
