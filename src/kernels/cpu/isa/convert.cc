// 16-bit floats to float32, from any address.
#include "kernels/cpu/isa/ops.h"

namespace molt::MOLT_ISA {
namespace {

typedef uint16_t VecU16 __attribute__((vector_size(kLanes * 2)));
typedef uint16_t UnalignedVecU16 __attribute__((vector_size(kLanes * 2), aligned(1), may_alias));
typedef uint32_t VecU32 __attribute__((vector_size(kLanes * 4)));

inline VecF from_bf16(VecU32 bits) {
  return reinterpret_cast<VecF>(bits << 16);
}

/// As Float16::to_float: halves are multiples of 2^-24, so scaling by a power of two rebuilds normal and subnormal
/// ones.
inline VecF from_f16(VecU32 bits) {
  const VecU32 sign = (bits & 0x8000U) << 16;
  const VecU32 magnitude = bits & 0x7fffU;
  const VecU32 special = (magnitude << 13) | 0x7f800000U;
  const VecF rebiased = reinterpret_cast<VecF>(magnitude << 13) * 0x1p112F;
  return reinterpret_cast<VecF>((magnitude >= 0x7c00U ? special : reinterpret_cast<VecU32>(rebiased)) | sign);
}

template <class Convert>
inline void convert_row(const void* from, float* y, int64_t n, Convert convert) {
  const char* x = static_cast<const char*>(from);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VecU16 bits = *reinterpret_cast<const UnalignedVecU16*>(x + 2 * i);
    store(y + i, convert(__builtin_convertvector(bits, VecU32)));
  }
  if (i < n) {
    VecU16 bits{};
    __builtin_memcpy(&bits, x + 2 * i, static_cast<uint64_t>(2 * (n - i)));
    store_first(y + i, convert(__builtin_convertvector(bits, VecU32)), static_cast<int>(n - i));
  }
}

}  // namespace

void f16_to_f32(const void* x, float* y, int64_t n) {
  convert_row(x, y, n, [](VecU32 bits) { return from_f16(bits); });
}

void bf16_to_f32(const void* x, float* y, int64_t n) {
  convert_row(x, y, n, [](VecU32 bits) { return from_bf16(bits); });
}

}  // namespace molt::MOLT_ISA
