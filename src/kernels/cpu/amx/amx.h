// What this instruction set has of its own, as table.cc lists it.
#pragma once

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

void ssd_round(const SsdGroupChunk& chunk);
void ssd_chunk_rounded(const SsdHead& head);
void multiply_panel_bf16(const PanelProduct& product);
void multiply_panel_int8(const QuantizedProduct& product);
void multiply_panel_int4(const QuantizedProduct& product);

}  // namespace molt::MOLT_ISA
