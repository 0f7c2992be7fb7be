#include "compress/dense.h"

#include <string_view>

#include "kernels/cpu/select.h"

namespace molt {

// The tables, one a namespace, as stamped by isa.cmake.
namespace dense_portable {
extern const DenseKernels kernels;
}
#if defined(__x86_64__)
namespace dense_avx2 {
extern const DenseKernels kernels;
}
namespace dense_avx512 {
extern const DenseKernels kernels;
}
#endif

const DenseKernels& dense() {
#if defined(__x86_64__)
  const std::string_view isa = select_kernels().name;
  if (isa.starts_with("avx512")) return dense_avx512::kernels;
  if (isa.starts_with("avx2")) return dense_avx2::kernels;
#endif
  return dense_portable::kernels;
}

}  // namespace molt
