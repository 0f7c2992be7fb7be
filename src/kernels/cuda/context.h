// Context: what a thread needs to run work on the device: its stream, handle, scratch memory and ways across.
//
// Each thread that calls a backend of the device has one of its own, made when it first asks and kept until it ends:
// threads never wait for each other, and work is in each thread's own order.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/cuda/matmul_plan.h"

namespace molt::cuda {

/// Throws Error, which says what was being done, unless `status` is success. Running out of memory is said as such.
void check(cudaError_t status, const char* doing);
void check(cublasStatus_t status, const char* doing);

/// To be called behind a kernel's launch.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

class Capture;

class Context {
 public:
  /// The calling thread's. Throws Error when there is no device.
  static Context& get();

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  cudaStream_t stream() const { return stream_; }
  cublasLtHandle_t blas() const { return blas_; }
  int processors() const { return processors_; }
  /// Whether a kernel can start before the one before it has ended.
  bool starts_early() const { return starts_early_; }
  /// Whether it is of compute capability 9.0.
  bool is_hopper() const { return is_hopper_; }
  int block_shared_bytes() const { return block_shared_bytes_; }

  static constexpr std::int64_t kRingBytes = std::int64_t{8} << 20;
  static constexpr std::size_t kBlasBytes = std::size_t{32} << 20;
  static constexpr std::int64_t kFixedBytes = kRingBytes + static_cast<std::int64_t>(kBlasBytes);
  void* blas_memory() const;
  MatmulPlans& matmul_plans() { return matmul_plans_; }

  /// Device memory for one op, 256-byte aligned; the next op overwrites it.
  std::byte* scratch(std::int64_t bytes);

  /// From here on `capture`, unless it is null, gives the memory.
  void capture_with(Capture* capture) { capture_ = capture; }

  /// `bytes` bytes of the host, on the device: readable by what this thread launches next, until many more megabytes
  /// have been handed over. Does not wait for the device.
  const std::byte* hand_over(const void* host, std::int64_t bytes);
  template <class T>
  const T* hand_over(const T* host, std::int64_t count) {
    const auto bytes = count * static_cast<std::int64_t>(sizeof(T));
    return reinterpret_cast<const T*>(hand_over(static_cast<const void*>(host), bytes));
  }

  /// The output of the scan of the layer that is being asked for will lie at `y` when what was asked for so far is
  /// done, and stay there until the next scan. Null: there is none.
  void leave_scan(const float* y);

  /// For ops that read nothing but rows from `x` on, and wait for what they find: this context; or, where that is the
  /// output of a scan that was left, another one beside it, whose work goes on while the layer's last products run.
  Context& to_measure(const float* x);

  /// Waits for the device and copies from it.
  void bring(const void* device, void* host, std::int64_t bytes);

  void wait();

 private:
  enum class Urgency { usual, high };
  explicit Context(Urgency urgency = Urgency::usual);
  void copy_over(const std::byte* page_locked, std::byte* to, std::int64_t bytes) const;

  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  void* blas_memory_ = nullptr;
  Capture* capture_ = nullptr;
  MatmulPlans matmul_plans_;
  int processors_ = 0;
  bool starts_early_ = false;
  bool is_hopper_ = false;
  int block_shared_bytes_ = 0;
  std::byte* scratch_ = nullptr;
  std::int64_t scratch_bytes_ = 0;
  // A ring, on either side: what is handed over moves along it.
  std::byte* ring_host_ = nullptr;  // page-locked
  std::byte* ring_device_ = nullptr;
  std::int64_t ring_bytes_ = 0;
  std::int64_t ring_used_ = 0;
  std::byte* landing_ = nullptr;  // page-locked, for what is brought
  const float* scan_ = nullptr;   // the output that was left
  cudaEvent_t scan_done_ = nullptr;
  std::unique_ptr<Context> beside_;  // when first needed
};

}  // namespace molt::cuda
