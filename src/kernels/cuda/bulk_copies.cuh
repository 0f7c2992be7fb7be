// Copies to shared memory that run by themselves, and the barriers that tell when they have arrived: on compute
// capability 9.0; elsewhere they do nothing, for kernels that are not launched there.
#pragma once

#include <cstdint>

#include "kernels/cuda/copies.cuh"

namespace molt::cuda {

#if __CUDA_ARCH__ >= 900
/// So many arrivals complete a phase, and the bytes that they announced.
__device__ inline void make_barrier(std::uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// Barriers that were made are there for copies.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void expect(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
__device__ inline void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/// What is read once need not stay in the cache.
__device__ inline std::uint64_t read_once() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
/// Sizes and addresses are multiples of 16.
__device__ inline void bulk_copy(void* to, const void* from, int bytes, std::uint64_t* barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}
__device__ inline void wait_for(std::uint64_t* barrier, int parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra again;}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
#else
__device__ inline void make_barrier(std::uint64_t*, int) {}
__device__ inline void publish_barriers() {}
__device__ inline void expect(std::uint64_t*, int) {}
__device__ inline void arrive(std::uint64_t*) {}
__device__ inline std::uint64_t read_once() {
  return 0;
}
__device__ inline void bulk_copy(void*, const void*, int, std::uint64_t*, std::uint64_t) {}
__device__ inline void wait_for(std::uint64_t*, int) {}
#endif

}  // namespace molt::cuda
