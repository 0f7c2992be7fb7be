// The matrix products of this instruction set, as table.cc lists them.
#pragma once

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

void multiply_panel_bf16(const PanelProduct& product);
void multiply_panel_int8(const QuantizedProduct& product);
void multiply_panel_int4(const QuantizedProduct& product);

}  // namespace molt::MOLT_ISA
