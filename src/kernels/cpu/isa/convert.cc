// 16-bit floats to float32, from any address, and states back to them.
#include "kernels/cpu/isa/ops.h"
#include "kernels/cpu/isa/stored_state.h"

namespace molt::MOLT_ISA {
namespace {

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
  for_vectors(n, [&](int64_t i, auto lanes) { put(y + i, convert(load_u16(x + 2 * i, lanes)), lanes); });
}

}  // namespace

void f16_to_f32(const void* x, float* y, int64_t n) {
  convert_row(x, y, n, [](VecU32 bits) { return from_f16(bits); });
}

void bf16_to_f32(const void* x, float* y, int64_t n) {
  convert_row(x, y, n, [](VecU32 bits) { return from_bf16(bits); });
}

void round_state(const float* x, const RoundedElementsAt& to, int64_t n) {
  for_vectors(n, [&](int64_t i, auto lanes) {
    const VecU32 draw = draw_columns(to.key, to.column + static_cast<uint32_t>(i)) + to.row * kWeyl;
    store_u16(to.data + i, round_at_random(at(x + i, lanes), draw), lanes);
  });
}

}  // namespace molt::MOLT_ISA
