// The quantized matrix products' entries in this instruction set's table of kernels.
#pragma once

#include <stdint.h>

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

// What round_blocks() writes, for the instructions that multiply it: bytes where there are dot products of bytes, 16
// bits where there are such of those, elsewhere float, in which every sum of a block is exact, too.
#if defined(__AVX512VNNI__)
using Code = int8_t;
#elif defined(__AVX2__)
using Code = int16_t;
#else
using Code = float;
#endif

void round_blocks(const float* x, int64_t n, int block, int64_t blocks, void* rounded);
void multiply_panel_int8(const QuantizedProduct& product);
void multiply_panel_int4(const QuantizedProduct& product);

}  // namespace molt::MOLT_ISA
