#include "tensor/arena.h"

#include <algorithm>

namespace molt {
namespace {

constexpr std::int64_t kAlignment = 16;           // floats
constexpr std::int64_t kSmallestBlock = 1 << 18;  // floats

}  // namespace

float* Arena::floats(std::int64_t n) {
  n = (n + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && used_ + n > blocks_[block_].size()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.push_back(memory_->uninitialized(DType::f32, {std::max(n, kSmallestBlock)}));
    used_ = 0;
  }
  float* result = blocks_[block_].as<float>() + used_;
  used_ += n;
  return result;
}

Matrix<float> Arena::matrix(std::int64_t rows, std::int64_t cols) {
  return {floats(rows * cols), rows, cols};
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    const std::int64_t total = bytes() / size_of(DType::f32);
    blocks_.clear();
    blocks_.push_back(memory_->uninitialized(DType::f32, {total}));
  }
  block_ = 0;
  used_ = 0;
}

std::int64_t Arena::bytes() const {
  std::int64_t total = 0;
  for (const Tensor& block : blocks_) total += block.bytes();
  return total;
}

}  // namespace molt
