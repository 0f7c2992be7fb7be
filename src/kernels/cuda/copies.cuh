// What is brought nearer while threads go on: copies from memory to shared memory, lines into the cache.
#pragma once

namespace molt::cuda {

/// As instructions take it.
__device__ inline unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Copies 16 bytes, or zeros where nothing is `there`; both are aligned to as much.
__device__ inline void copy_unit(void* to, const void* from, bool there) {
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
}

/// For the thread's own.
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// Brings the line of memory into the cache.
__device__ inline void prefetch_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

}  // namespace molt::cuda
