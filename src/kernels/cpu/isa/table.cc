// The table of this instruction set.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/panel_gemm.h"
#include "kernels/cpu/isa/vec.h"

#define MOLT_ISA_STRING_(x) #x
#define MOLT_ISA_STRING(x) MOLT_ISA_STRING_(x)

namespace molt::MOLT_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    .name = MOLT_ISA_STRING(MOLT_ISA),
    .rounded_bytes = sizeof(Rounded),
    .round_row = round_row,
    .multiply_panel_f32 = multiply_panel_f32,
    .multiply_panel_bf16 = multiply_panel_bf16,
};

}  // namespace molt::MOLT_ISA
