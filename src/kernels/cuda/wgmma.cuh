// Products of a warpgroup's tiles on the tensor cores of compute capability 9.0 (wgmma): 64 x 16 times 16 x 64 in
// bfloat16, summed in float32, read from shared memory while the threads go on.
//
// Operands lie in panels: 64 (or more) rows of 64 elements, 128 bytes a row, the 16-byte units of a row swapped as the
// hardware wants them (128-byte swizzle): unit u of row r lies at u ^ (r % 8). A panel begins at a multiple of 1024
// bytes. Element (m, n) of a sum: as in tensor_cores.cuh, tile by tile of 8 columns, warp w holding rows 16w .. 16w
// + 15.
//
// Only for code that is compiled for sm_90a; elsewhere kernels that use it must not be run.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace molt::cuda::wgmma {

constexpr int kPanelRows = 64;
constexpr int kPanelColumns = 64;
constexpr int kRowBytes = 128;
constexpr int kPanelBytes = kPanelRows * kRowBytes;
constexpr int kTiles = 8;  // of 8 columns, of a sum

/// Where element (row, column) of a panel lies, in bytes.
__device__ inline unsigned place(int row, int column) {
  return static_cast<unsigned>(row * kRowBytes + (((column / 8) ^ (row % 8)) * 16) + column % 8 * 2);
}

/// A panel, or rows of it from a multiple of 8 on, for an instruction to read.
__device__ inline std::uint64_t describe(unsigned panel) {
  constexpr std::uint64_t kEightRows = 8 * kRowBytes / 16;
  constexpr std::uint64_t kSwizzle128 = 1;
  return ((panel & 0x3ffffU) >> 4) | (std::uint64_t{1} << 16) | (kEightRows << 32) | (kSwizzle128 << 62);
}

/// k-th 16 columns of a panel: the inner dimension lies along rows.
__device__ inline std::uint64_t along(unsigned panel, int k) {
  return describe(panel + static_cast<unsigned>(k) * 32);
}
/// k-th 16 rows of a panel: the inner dimension lies across rows.
__device__ inline std::uint64_t across(unsigned panel, int k) {
  return describe(panel + static_cast<unsigned>(k) * 16 * kRowBytes);
}

/// Stores four matrices of 8 x 8 elements that a warp holds as it holds sums; `to` is where this lane's row of one
/// lies: lane / 8 is which, lane % 8 the row.
__device__ inline void store_four(unsigned to, std::uint32_t m0, std::uint32_t m1, std::uint32_t m2, std::uint32_t m3) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(m0), "r"(m1), "r"(m2),
               "r"(m3)
               : "memory");
#endif
}

/// What threads wrote to shared memory before is what instructions read behind a barrier.
__device__ inline void publish() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define MOLT_WGMMA(...) asm volatile(__VA_ARGS__)
#else
#define MOLT_WGMMA(...) __trap()
#endif

/// Before the first product, and wherever threads have changed sums or operands in registers.
__device__ inline void begin() {
  MOLT_WGMMA("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Ends a group of products.
__device__ inline void commit() {
  MOLT_WGMMA("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until no more than kGroups of them are under way.
template <int kGroups>
__device__ inline void wait() {
  MOLT_WGMMA("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

#define MOLT_WGMMA_SUMS(c)                                                                                     \
  "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]),     \
      "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[3][0]), "+f"(c[3][1]), \
      "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), \
      "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]), "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), \
      "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3])
#define MOLT_WGMMA_PLACES                                                                                           \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31}"

/// c += left * right, or c = left * right. The left operand lies along rows or, kAcross, across them; the right one
/// across.
template <bool kAcross>
__device__ inline void multiply(float (&c)[kTiles][4], std::uint64_t left, std::uint64_t right, bool add) {
  MOLT_WGMMA(
      "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " MOLT_WGMMA_PLACES ", %32, %33, p, 1, 1, %35, 1;}"
      : MOLT_WGMMA_SUMS(c)
      : "l"(left), "l"(right), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0));
}

/// c += left * right, the left operand in registers, as tensor_cores.cuh has it.
__device__ inline void multiply(float (&c)[kTiles][4], const std::uint32_t (&left)[4], std::uint64_t right) {
  MOLT_WGMMA(
      "{.reg .pred p; setp.eq.b32 p, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " MOLT_WGMMA_PLACES
      ", {%32, %33, %34, %35}, %36, p, 1, 1, 1;}"
      : MOLT_WGMMA_SUMS(c)
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));
}

#undef MOLT_WGMMA_PLACES
#undef MOLT_WGMMA_SUMS
#undef MOLT_WGMMA

}  // namespace molt::cuda::wgmma
