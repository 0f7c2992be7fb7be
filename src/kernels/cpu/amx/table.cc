// The table of this instruction set: another's (avx512_bf16's), with its own matrix products.
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/isa/kernels.h"

#define MOLT_ISA_STRING_(x) #x
#define MOLT_ISA_STRING(x) MOLT_ISA_STRING_(x)

namespace molt::MOLT_ISA {

Kernels with_tiles(const Kernels& base);  // select.cc calls it
Kernels with_tiles(const Kernels& base) {
  Kernels kernels = base;
  kernels.name = MOLT_ISA_STRING(MOLT_ISA);
  // Tiles are so fast that reading weights again costs more than rows that fill a level-2 cache of 2 MiB but for two
  // panels.
  kernels.piece_rows = 960;
  kernels.piece_bytes = int64_t{5} << 18;
  kernels.ssd_round = ssd_round;
  kernels.ssd_chunk_rounded = ssd_chunk_rounded;
  kernels.multiply_panel_bf16 = multiply_panel_bf16;
  kernels.multiply_panel_int8 = multiply_panel_int8;
  kernels.multiply_panel_int4 = multiply_panel_int4;
  return kernels;
}

}  // namespace molt::MOLT_ISA
