// RawStates: the states of some sequences in the memory of a model's backend, for those who drive ModelCore themselves.
#pragma once

#include <span>
#include <vector>

#include "model/model.h"

namespace molt {

class RawStates {
 public:
  /// Of none.
  RawStates() = default;

  /// `count` states in float32 before the first token.
  RawStates(const ModelCore& model, std::size_t count)
      : memory_(&model.backend().memory()),
        bytes_(model.state_layout().bytes),
        data_(memory_->zeros(DType::u8, {static_cast<std::int64_t>(count), bytes_})) {
    for (std::size_t s = 0; s < count; ++s) pointers_.push_back(data_.data() + static_cast<std::int64_t>(s) * bytes_);
  }

  std::size_t count() const { return pointers_.size(); }
  std::span<std::byte* const> pointers() const { return pointers_; }

  /// Takes over the first `bytes` bytes of each state of `other`, whose count is the same; the rest becomes zeros.
  void restart(const RawStates* other, std::int64_t bytes) {
    for (std::size_t s = 0; s < count(); ++s) {
      const std::int64_t copied = other == nullptr ? 0 : bytes;
      if (copied > 0) memory_->copy(other->pointers_[s], pointers_[s], copied);
      memory_->clear(pointers_[s] + copied, bytes_ - copied);
    }
  }

 private:
  const Memory* memory_ = nullptr;
  std::int64_t bytes_ = 0;
  Tensor data_;  // [count, bytes]
  std::vector<std::byte*> pointers_;
};

}  // namespace molt
