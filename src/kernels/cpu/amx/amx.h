// The matrix products of this instruction set, as table.cc lists them.
#pragma once

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

void multiply_panel_bf16(const PanelProduct& product);

}  // namespace molt::MOLT_ISA
