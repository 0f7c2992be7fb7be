// The products with two weights of every four, in this instruction set's table of kernels.
#pragma once

#include "kernels/cpu/isa/kernels.h"

namespace molt::MOLT_ISA {

void pair_columns(const float* x, int64_t n, int64_t blocks, void* pairs);
void multiply_panel_pairs(const PairProduct& product);

}  // namespace molt::MOLT_ISA
