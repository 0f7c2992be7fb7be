// Capture: a step that was recorded once, as a CUDA graph, with the memory that it goes through.
//
// While one is recorded its thread's Context hands out this memory for its own, so that what the thread does later
// leaves the recorded step alone; it can be replayed on any thread.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>

#include "kernels/backend.h"
#include "kernels/cuda/context.h"

namespace molt::cuda {

/// Device or page-locked memory that is given back.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::int64_t bytes, bool on_host);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
  bool on_host_ = false;
};

class Capture final : public Recording {
 public:
  /// Of what is handed over.
  static constexpr std::int64_t kHandedOver = std::int64_t{1} << 20;
  /// Device memory that each takes, beside its ops' scratch memory.
  static constexpr std::int64_t kFixedBytes = kHandedOver + static_cast<std::int64_t>(Context::kBlasBytes);

  /// Records what `work` asks this thread's Context for.
  explicit Capture(const std::function<void()>& work);
  ~Capture() override;

  void replay(std::span<const TokenId> ids) override;

  // For the Context that is recorded.
  std::byte* scratch(std::int64_t bytes);
  void* blas_memory() const { return blas_memory_.data(); }
  /// Notes a copy from page-locked memory, which the graph will repeat. Gives the place of both.
  std::byte* hand_over(const void* host, std::int64_t bytes, std::byte*& page_locked);

 private:
  std::list<Buffer> scratch_;  // the last is the largest; steps that asked for less go on using earlier ones
  Buffer blas_memory_, host_, device_;
  std::int64_t used_ = 0;
  std::int64_t first_bytes_ = -1;  // of what was handed over first: the ids
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace molt::cuda
