// Memory: where numbers lie: in the memory of this process, or in a device's own.
//
// Whoever runs ops keeps what they work on (weights, activations, states) in the memory of the backend that runs them
// (Backend::memory()) and moves numbers across explicitly. On the host moving is copying, and place() and fetch() of
// what is there already give it back as it is: a CPU pays nothing for a device's sake.
//
// Thread-safe. Work on a device is in the order of the thread that asked for it; download() waits for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tensor/tensor.h"

namespace molt {

class Memory {
 public:
  virtual ~Memory() = default;

  /// Whether code on the host may read and write it.
  virtual bool is_host() const = 0;

  /// `bytes` bytes of unspecified values, which begin at a cache line at least. Throws Error when there is no room.
  virtual std::shared_ptr<std::byte> allocate(std::int64_t bytes) const = 0;

  // Between ranges that do not overlap; `host` is memory of this process.
  virtual void upload(const std::byte* host, std::byte* to, std::int64_t bytes) const = 0;
  virtual void download(const std::byte* from, std::byte* host, std::int64_t bytes) const = 0;
  virtual void copy(const std::byte* from, std::byte* to, std::int64_t bytes) const = 0;

  /// Sets all bytes to zero.
  virtual void clear(std::byte* to, std::int64_t bytes) const = 0;

  /// The same for the rows of x, which lies here, and what lies between them.
  void clear_rows(Matrix<float> x) const;

  Tensor uninitialized(DType dtype, Shape shape) const;
  Tensor zeros(DType dtype, Shape shape) const;

  /// `host`, a tensor of this process, in this memory: a copy, or itself where that is the host's.
  Tensor place(const Tensor& host) const;

  /// `tensor`, which lies here, for the host to read: a copy, or itself.
  Tensor fetch(const Tensor& tensor) const;

  /// The values of x, which lies here, as a tensor [rows, cols] of the host's own.
  Tensor fetch(Matrix<const float> x) const;
};

/// The memory of this process.
const Memory& host_memory();

}  // namespace molt
