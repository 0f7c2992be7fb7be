#include "tensor/arena.h"

#include <algorithm>

namespace molt {
namespace {

constexpr std::int64_t kAlignment = 16;           // floats
constexpr std::int64_t kSmallestBlock = 1 << 18;  // floats
constexpr std::int64_t kPage = 1024;              // floats
constexpr std::int64_t kGap = 32;                 // floats: two cache lines

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
  const bool whole_pages = cols > 0 && cols % kPage == 0;
  const std::int64_t stride = whole_pages && memory_->is_host() ? cols + kGap : cols;
  return {floats(rows * stride), rows, cols, stride};
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
