// The table of this instruction set.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec.h"

#define MOLT_ISA_STRING_(x) #x
#define MOLT_ISA_STRING(x) MOLT_ISA_STRING_(x)

namespace molt::MOLT_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    .name = MOLT_ISA_STRING(MOLT_ISA),
};

}  // namespace molt::MOLT_ISA
