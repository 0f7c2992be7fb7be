#include "tensor/memory.h"

#include <algorithm>
#include <cstring>

#include "base/aligned_memory.h"

namespace molt {
namespace {

class HostMemory final : public Memory {
 public:
  bool is_host() const override { return true; }
  std::shared_ptr<std::byte> allocate(std::int64_t bytes) const override {
    return {static_cast<std::byte*>(allocate_aligned(static_cast<std::size_t>(bytes))), FreeAligned()};
  }
  void upload(const std::byte* host, std::byte* to, std::int64_t bytes) const override { copy(host, to, bytes); }
  void download(const std::byte* from, std::byte* host, std::int64_t bytes) const override { copy(from, host, bytes); }
  void copy(const std::byte* from, std::byte* to, std::int64_t bytes) const override {
    if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void clear(std::byte* to, std::int64_t bytes) const override {
    if (bytes > 0) std::memset(to, 0, static_cast<std::size_t>(bytes));
  }
};

}  // namespace

void Memory::clear_rows(Matrix<float> x) const {
  if (x.rows == 0) return;
  clear(reinterpret_cast<std::byte*>(x.data), ((x.rows - 1) * x.stride + x.cols) * size_of(DType::f32));
}

Tensor Memory::uninitialized(DType dtype, Shape shape) const {
  std::shared_ptr<std::byte> data = allocate(element_count(shape) * size_of(dtype));
  std::byte* const bytes = data.get();
  return {dtype, std::move(shape), bytes, std::move(data)};
}

Tensor Memory::zeros(DType dtype, Shape shape) const {
  Tensor result = uninitialized(dtype, std::move(shape));
  clear(result.data(), result.bytes());
  return result;
}

Tensor Memory::place(const Tensor& host) const {
  if (is_host() || host.empty()) return host;
  Tensor placed = uninitialized(host.dtype(), host.shape());
  upload(host.data(), placed.data(), host.bytes());
  return placed;
}

Tensor Memory::fetch(const Tensor& tensor) const {
  if (is_host() || tensor.empty()) return tensor;
  Tensor fetched = Tensor::uninitialized(tensor.dtype(), tensor.shape());
  download(tensor.data(), fetched.data(), tensor.bytes());
  return fetched;
}

Tensor Memory::fetch(Matrix<const float> x) const {
  Tensor fetched = Tensor::uninitialized(DType::f32, {x.rows, x.cols});
  if (x.rows == 0 || x.cols == 0) return fetched;
  Matrix<const float> rows = x;
  Tensor extent;  // what lies between the rows, too: one transfer
  if (!is_host()) {
    extent = Tensor::uninitialized(DType::f32, {(x.rows - 1) * x.stride + x.cols});
    download(reinterpret_cast<const std::byte*>(x.data), extent.data(), extent.bytes());
    rows.data = extent.as<float>();
  }
  for (std::int64_t i = 0; i < x.rows; ++i) std::copy_n(rows.row(i), x.cols, fetched.matrix().row(i));
  return fetched;
}

const Memory& host_memory() {
  static const HostMemory memory;
  return memory;
}

}  // namespace molt
