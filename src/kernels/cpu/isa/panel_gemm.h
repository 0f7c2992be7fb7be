// The matrix products' entries in this instruction set's table of kernels.
#pragma once

#include <stdint.h>

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

// What round_row() writes: bfloat16 where there are instructions that multiply it, float elsewhere.
#if defined(__AVX512BF16__)
using Rounded = uint16_t;
#else
using Rounded = float;
#endif

void round_row(const float* x, int64_t n, int64_t padded, void* rounded);
void multiply_panel_f32(const PanelProduct& product);
void multiply_panel_bf16(const PanelProduct& product);

}  // namespace molt::MOLT_ISA
