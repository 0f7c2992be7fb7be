// Products of small tiles on tensor cores, in two precisions with one interface: 16 x 16 times 16 x 8, summed in
// float32.
//
//   Narrow  operands in bfloat16
//   Exact   operands in float32, each split into two of TF32, three products for one: what is lost is of the size of
//           float32's own rounding
//
// A warp holds a tile together; g = lane / 4 and q = lane % 4 below. Element (m, n) of a sum: c[0], c[1] = (g, 2q),
// (g, 2q + 1); c[2], c[3] = (g + 8, ...). Operands come from shared memory, either way round: `along` when elements of
// the inner dimension k lie side by side, `across` when those of the outer one do.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/copies.cuh"

namespace molt::cuda {

struct Lane {
  int g, q;
  __device__ Lane() : g(static_cast<int>(threadIdx.x) % 32 / 4), q(static_cast<int>(threadIdx.x) % 4) {}
};

struct Narrow {
  using Element = __nv_bfloat16;
  static constexpr int kPad = 8;  // elements between rows: matrices are fetched without bank conflicts

  struct Left {
    std::uint32_t r[4];
  };
  struct Right {
    std::uint32_t r[2];
  };

  static __device__ std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  static __device__ float low(std::uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ float high(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000U); }

  /// (m, k) at base[m * stride + k].
  static __device__ Left left_along(const Element* base, int stride) {
    const int lane = threadIdx.x % 32;
    Left a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(shared_address(base + lane % 16 * stride + lane / 16 * 8)));
    return a;
  }

  /// (m, k) at base[k * stride + m].
  static __device__ Left left_across(const Element* base, int stride) {
    const int lane = threadIdx.x % 32;
    Left a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(shared_address(base + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8)));
    return a;
  }

  /// Two neighbours: (k, n) at base[n * stride + k], the second from n = 8 on.
  static __device__ void right_along(const Element* base, int stride, Right& b0, Right& b1) {
    const int lane = threadIdx.x % 32;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b0.r[0]), "=r"(b0.r[1]), "=r"(b1.r[0]), "=r"(b1.r[1])
                 : "r"(shared_address(base + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8)));
  }

  /// (k, n) at base[k * stride + n].
  static __device__ void right_across(const Element* base, int stride, Right& b0, Right& b1) {
    const int lane = threadIdx.x % 32;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b0.r[0]), "=r"(b0.r[1]), "=r"(b1.r[0]), "=r"(b1.r[1])
                 : "r"(shared_address(base + lane % 16 * stride + lane / 16 * 8)));
  }

  /// Two sums beside each other as an operand.
  static __device__ Left left_of(const float (&c0)[4], const float (&c1)[4]) {
    return {{pack(c0[0], c0[1]), pack(c0[2], c0[3]), pack(c1[0], c1[1]), pack(c1[2], c1[3])}};
  }

  /// a(m, k) *= w[k].
  static __device__ void scale(Left& a, const float* w) {
    const int k = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const pair = w + k + (i < 2 ? 0 : 8);
      a.r[i] = pack(low(a.r[i]) * pair[0], high(a.r[i]) * pair[1]);
    }
  }

  static __device__ void add_product(float (&c)[4], const Left& a, const Right& b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }

  static __device__ void store(Element* to, float v0, float v1) {
    *reinterpret_cast<std::uint32_t*>(to) = pack(v0, v1);
  }
  /// Two neighbours.
  static __device__ float2 load(const Element* from) {
    const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(from);
    return {low(pair), high(pair)};
  }
};

struct Exact {
  using Element = float;
  static constexpr int kPad = 4;

  // Two steps of 8. Within a step the hardware's columns q and q + 4 are taken for 2q and 2q + 1, on both sides.
  struct Left {
    float v[2][4];
  };
  struct Right {
    float v[2][2];
  };

  static __device__ Left left_along(const Element* base, int stride) {
    const Lane l;
    Left a;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const float2 top = *reinterpret_cast<const float2*>(base + l.g * stride + 8 * s + 2 * l.q);
      const float2 bottom = *reinterpret_cast<const float2*>(base + (l.g + 8) * stride + 8 * s + 2 * l.q);
      a.v[s][0] = top.x, a.v[s][1] = bottom.x, a.v[s][2] = top.y, a.v[s][3] = bottom.y;
    }
    return a;
  }

  static __device__ Left left_across(const Element* base, int stride) {
    const Lane l;
    Left a;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a.v[s][i] = base[(8 * s + 2 * l.q + i / 2) * stride + l.g + i % 2 * 8];
    }
    return a;
  }

  static __device__ void right_along(const Element* base, int stride, Right& b0, Right& b1) {
    const Lane l;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const float2 first = *reinterpret_cast<const float2*>(base + l.g * stride + 8 * s + 2 * l.q);
      const float2 second = *reinterpret_cast<const float2*>(base + (l.g + 8) * stride + 8 * s + 2 * l.q);
      b0.v[s][0] = first.x, b0.v[s][1] = first.y;
      b1.v[s][0] = second.x, b1.v[s][1] = second.y;
    }
  }

  static __device__ void right_across(const Element* base, int stride, Right& b0, Right& b1) {
    const Lane l;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float* const row = base + (8 * s + 2 * l.q + i) * stride;
        b0.v[s][i] = row[l.g];
        b1.v[s][i] = row[l.g + 8];
      }
    }
  }

  static __device__ Left left_of(const float (&c0)[4], const float (&c1)[4]) {
    return {{{c0[0], c0[2], c0[1], c0[3]}, {c1[0], c1[2], c1[1], c1[3]}}};
  }

  static __device__ void scale(Left& a, const float* w) {
    const int k = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a.v[s][i] *= w[8 * s + k + i / 2];
    }
  }

  static __device__ std::uint32_t tf32(float v) {
    std::uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
    return bits;
  }

  /// The part of `values` that TF32 holds, and what is left.
  template <int kCount>
  static __device__ void split(const float (&values)[kCount], std::uint32_t (&large)[kCount],
                               std::uint32_t (&small)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      large[i] = tf32(values[i]);
      small[i] = tf32(values[i] - __uint_as_float(large[i]));
    }
  }

  static __device__ void mma(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }

  static __device__ void add_product(float (&c)[4], const Left& a, const Right& b) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      std::uint32_t a_large[4], a_small[4], b_large[2], b_small[2];
      split(a.v[s], a_large, a_small);
      split(b.v[s], b_large, b_small);
      mma(c, a_small, b_large);
      mma(c, a_large, b_small);
      mma(c, a_large, b_large);
    }
  }

  static __device__ void store(Element* to, float v0, float v1) {
    *reinterpret_cast<float2*>(to) = {v0, v1};
  }
  static __device__ float2 load(const Element* from) {
    return *reinterpret_cast<const float2*>(from);
  }
};

}  // namespace molt::cuda
