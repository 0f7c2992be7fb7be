#include "kernels/cuda/context.h"

#include <algorithm>
#include <cstring>

#include "base/fail.h"
#include "kernels/cuda/capture.h"

namespace molt::cuda {
namespace {

constexpr std::int64_t kLandingBytes = std::int64_t{1} << 20;
constexpr std::int64_t kAlignment = 256;

std::int64_t rounded_up(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  if (status == cudaErrorMemoryAllocation) {
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    cudaGetLastError();
    fail(
        "the GPU is out of memory ({}; {:.1f} of {:.1f} GB are free): take fewer sequences or tokens at a time "
        "(--batch, "
        "--window), or narrower weights and states (--dtype, --state)",
        doing, static_cast<double>(free) / 1e9, static_cast<double>(total) / 1e9);
  }
  fail("CUDA: {} ({}): {}", doing, cudaGetErrorName(status), cudaGetErrorString(status));
}

void check(cublasStatus_t status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("cuBLAS: {}: {}", doing, cublasLtGetStatusString(status));
}

Context& Context::get() {
  thread_local Context context;
  return context;
}

Context::Context(Urgency urgency) {
  int device = 0;
  check(cudaGetDevice(&device), "finding the GPU");
  check(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, device), "asking the GPU for its size");
  check(cudaDeviceGetAttribute(&block_shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking the GPU for its shared memory");
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking the GPU what it is");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "asking the GPU what it is");
  starts_early_ = major >= 9;
  is_hopper_ = major == 9 && minor == 0;
  int least = 0, most = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &most), "asking the GPU for priorities");
  check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgency == Urgency::high ? most : least),
        "making a stream");
  check(cublasLtCreate(&blas_), "starting");
  check(cudaMalloc(&blas_memory_, kBlasBytes), "memory for matrix products");
  ring_bytes_ = kRingBytes;
  check(cudaMallocHost(&ring_host_, static_cast<std::size_t>(ring_bytes_)), "page-locked memory");
  check(cudaMalloc(&ring_device_, static_cast<std::size_t>(ring_bytes_)), "memory for row numbers");
  check(cudaMallocHost(&landing_, static_cast<std::size_t>(kLandingBytes)), "page-locked memory");
}

Context::~Context() {
  // At the end of the process the driver may be gone before: what fails here does not matter.
  for (auto& [key, plan] : matmul_plans_) {
    cublasLtMatmulDescDestroy(plan.operation);
    for (cublasLtMatrixLayout_t layout : {plan.w, plan.x, plan.y}) cublasLtMatrixLayoutDestroy(layout);
  }
  if (scan_done_ != nullptr) cudaEventDestroy(scan_done_);
  cudaFreeHost(landing_);
  cudaFree(ring_device_);
  cudaFreeHost(ring_host_);
  cudaFree(scratch_);
  cudaFree(blas_memory_);
  cublasLtDestroy(blas_);
  cudaStreamDestroy(stream_);
}

void* Context::blas_memory() const {
  return capture_ != nullptr ? capture_->blas_memory() : blas_memory_;
}

std::byte* Context::scratch(std::int64_t bytes) {
  if (capture_ != nullptr) return capture_->scratch(bytes);
  if (bytes > scratch_bytes_) {
    wait();
    check(cudaFree(scratch_), "giving scratch memory back");
    scratch_ = nullptr;
    scratch_bytes_ = 0;
    check(cudaMalloc(&scratch_, static_cast<std::size_t>(bytes)), "scratch memory of an op");
    scratch_bytes_ = bytes;
  }
  return scratch_;
}

const std::byte* Context::hand_over(const void* host, std::int64_t bytes) {
  if (capture_ != nullptr) {
    std::byte* page_locked = nullptr;
    std::byte* const to = capture_->hand_over(host, bytes, page_locked);
    if (bytes > 0) copy_over(page_locked, to, bytes);
    return to;
  }
  const std::int64_t room = rounded_up(bytes);
  if (ring_used_ + room > ring_bytes_) {
    wait();  // then nothing on the ring is wanted any more
    ring_used_ = 0;
  }
  if (room > ring_bytes_) {
    cudaFreeHost(ring_host_);
    cudaFree(ring_device_);
    ring_host_ = ring_device_ = nullptr;
    ring_bytes_ = 2 * room;
    check(cudaMallocHost(&ring_host_, static_cast<std::size_t>(ring_bytes_)), "page-locked memory");
    check(cudaMalloc(&ring_device_, static_cast<std::size_t>(ring_bytes_)), "memory for row numbers");
  }
  std::byte* const to = ring_device_ + ring_used_;
  if (bytes > 0) {
    std::memcpy(ring_host_ + ring_used_, host, static_cast<std::size_t>(bytes));
    copy_over(ring_host_ + ring_used_, to, bytes);
  }
  ring_used_ += room;
  return to;
}

void Context::copy_over(const std::byte* page_locked, std::byte* to, std::int64_t bytes) const {
  check(cudaMemcpyAsync(to, page_locked, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "handing numbers over");
}

void Context::leave_scan(const float* y) {
  scan_ = y;
  if (y == nullptr) return;
  if (scan_done_ == nullptr) {
    check(cudaEventCreateWithFlags(&scan_done_, cudaEventDisableTiming), "making an event");
  }
  check(cudaEventRecord(scan_done_, stream_), "noting an event");
}

Context& Context::to_measure(const float* x) {
  if (x == nullptr || x != scan_) return *this;
  if (beside_ == nullptr) beside_.reset(new Context(Urgency::high));
  check(cudaStreamWaitEvent(beside_->stream_, scan_done_), "waiting for an event");
  return *beside_;
}

void Context::bring(const void* device, void* host, std::int64_t bytes) {
  if (bytes == 0) return;
  const bool small = bytes <= kLandingBytes;
  void* const to = small ? landing_ : host;
  check(cudaMemcpyAsync(to, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
        "bringing results");
  wait();
  if (small) std::memcpy(host, landing_, static_cast<std::size_t>(bytes));
}

void Context::wait() {
  check(cudaStreamSynchronize(stream_), "waiting for the GPU");
}

}  // namespace molt::cuda
