#include "kernels/cuda/capture.h"

#include <cstring>

#include "kernels/cuda/context.h"

namespace molt::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;

}  // namespace

Buffer::Buffer(std::int64_t bytes, bool on_host) : bytes_(bytes), on_host_(on_host) {
  const auto size = static_cast<std::size_t>(bytes > 0 ? bytes : 1);
  check(on_host ? cudaMallocHost(&data_, size) : cudaMalloc(&data_, size), "memory of a recorded step");
}

Buffer::~Buffer() {
  if (on_host_) {
    cudaFreeHost(data_);
  } else {
    cudaFree(data_);
  }
}

Capture::Capture(const std::function<void()>& work)
    : blas_memory_(Context::kBlasBytes, false), host_(kHandedOver, true), device_(kHandedOver, false) {
  Context& context = Context::get();
  // Relaxed: `work` may allocate, which happens at once and is no part of the graph.
  check(cudaStreamBeginCapture(context.stream(), cudaStreamCaptureModeRelaxed), "recording a step");
  context.capture_with(this);
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    context.capture_with(nullptr);
    cudaStreamEndCapture(context.stream(), &graph);
    cudaGraphDestroy(graph);
    cudaGetLastError();  // what failed is told by the exception
    throw;
  }
  context.capture_with(nullptr);
  check(cudaStreamEndCapture(context.stream(), &graph), "recording a step");
  const cudaError_t status = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "recording a step");
}

Capture::~Capture() {
  cudaGraphExecDestroy(graph_);
}

void Capture::replay(std::span<const TokenId> ids) {
  Context& context = Context::get();
  context.wait();  // the step before may still read its ids
  MOLT_CHECK(static_cast<std::int64_t>(ids.size_bytes()) == first_bytes_);
  std::memcpy(host_.data(), ids.data(), ids.size_bytes());
  check(cudaGraphLaunch(graph_, context.stream()), "a recorded step");
}

std::byte* Capture::scratch(std::int64_t bytes) {
  if (scratch_.empty() || scratch_.back().bytes() < bytes) scratch_.emplace_back(bytes, false);
  return scratch_.back().data();
}

std::byte* Capture::hand_over(const void* host, std::int64_t bytes, std::byte*& page_locked) {
  MOLT_CHECK(used_ + bytes <= kHandedOver);
  if (first_bytes_ < 0) first_bytes_ = bytes;
  page_locked = host_.data() + used_;
  if (bytes > 0) std::memcpy(page_locked, host, static_cast<std::size_t>(bytes));
  std::byte* const to = device_.data() + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return to;
}

}  // namespace molt::cuda
