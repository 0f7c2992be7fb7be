// Arena: scratch memory for one forward pass, handed out by moving a pointer and taken back all at once.
//
// It lies in the memory of the backend that runs the pass. Memory from an arena is uninitialised and valid until
// reset() or until the Scope it was taken in ends. After the first pass of a given size an arena allocates no more. Not
// thread-safe: one arena a session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/memory.h"
#include "tensor/tensor.h"

namespace molt {

class Arena {
 public:
  /// `memory` must outlive it.
  explicit Arena(const Memory& memory = host_memory()) : memory_(&memory) {}

  /// rows x cols floats, 64-byte aligned. On the host rows of whole pages are a little further apart: who reads along a
  /// column would else meet himself in a few places of a cache (the convolution of 256 rows of 1024 channels takes 1.7
  /// times as long then).
  Matrix<float> matrix(std::int64_t rows, std::int64_t cols);

  /// n floats, 64-byte aligned.
  float* floats(std::int64_t n);

  /// Takes everything back. What was used is kept as one block, so that the next pass finds it in one piece.
  void reset();

  /// Bytes that this arena holds.
  std::int64_t bytes() const;

  /// Takes back at its end what was handed out since its beginning.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t block_;
    std::int64_t used_;
  };

 private:
  const Memory* memory_;
  std::vector<Tensor> blocks_;
  std::size_t block_ = 0;  // the block that is being handed out
  std::int64_t used_ = 0;  // floats of it that are taken
};

}  // namespace molt
