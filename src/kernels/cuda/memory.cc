#include "kernels/cuda/memory.h"

#include <cuda_runtime.h>

#include "kernels/cuda/context.h"

namespace molt::cuda {
namespace {

class DeviceMemory final : public Memory {
 public:
  bool is_host() const override { return false; }

  std::shared_ptr<std::byte> allocate(std::int64_t bytes) const override {
    void* data = nullptr;
    check(cudaMalloc(&data, static_cast<std::size_t>(bytes > 0 ? bytes : 1)), "allocating");
    // Freeing waits for all work on the device, so for whoever still uses it.
    return {static_cast<std::byte*>(data), [](std::byte* p) { cudaFree(p); }};
  }

  void upload(const std::byte* host, std::byte* to, std::int64_t bytes) const override {
    if (bytes == 0) return;
    Context& context = Context::get();
    check(cudaMemcpyAsync(to, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, context.stream()),
          "uploading");
    context.wait();  // others' streams may use it next
  }

  void download(const std::byte* from, std::byte* host, std::int64_t bytes) const override {
    Context::get().bring(from, host, bytes);
  }

  void copy(const std::byte* from, std::byte* to, std::int64_t bytes) const override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, Context::get().stream()),
          "copying");
  }

  void clear(std::byte* to, std::int64_t bytes) const override {
    if (bytes == 0) return;
    check(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), Context::get().stream()), "clearing");
  }
};

}  // namespace

const Memory& device_memory() {
  static const DeviceMemory memory;
  return memory;
}

}  // namespace molt::cuda
