#include "kernels/cuda/cuda_backend.h"

#include "base/fail.h"
#include "base/registry.h"
#include "kernels/cuda/capture.h"
#include "kernels/cuda/context.h"

namespace molt {
namespace {

std::shared_ptr<const Backend> make() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    fail("no GPU can be used: {}; run with --backend cpu",
         status == cudaSuccess ? "there is none" : cudaGetErrorString(status));
  }
  int major = 0;
  cuda::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "asking the GPU what it is");
  if (major < 8) fail("the GPU is of compute capability {}.x; 8.0 or later is needed. Run with --backend cpu", major);
  return std::make_shared<CudaBackend>();
}

const Registration<BackendFactory> registration{"cuda", make};

}  // namespace

CudaBackend::CudaBackend(DType precision)
    : StagedBackend(make_backend("cpu"), cuda::device_memory()), precision_(precision) {}

void CudaBackend::finish() const {
  cuda::Context::get().wait();
}

void CudaBackend::finish_all() const {
  cuda::check(cudaDeviceSynchronize(), "waiting for the GPU");
}

std::unique_ptr<Recording> CudaBackend::record(const std::function<void()>& work) const {
  return std::make_unique<cuda::Capture>(work);
}

std::shared_ptr<const Backend> CudaBackend::suited_to(DType dtype) const {
  return dtype == precision_ ? nullptr : std::make_shared<CudaBackend>(dtype);
}

}  // namespace molt
