// MatmulPlans: the algorithms that cuBLASLt chose for products of the shapes seen so far. One a thread.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <map>

namespace molt::cuda {

/// What the choice depends on.
struct MatmulKey {
  std::int64_t rows, out, in;       // T, N, K
  std::int64_t x_stride, y_stride;  // elements
  std::int64_t narrow;              // 1: bf16 inputs, 0: f32
  std::int64_t narrow_y;            // 1: y in bf16, 0: f32
  std::int64_t y_alignment;         // bytes, at most 256
  std::int64_t count = 1;           // products of this shape in one call, whose matrices lie behind each other
  auto operator<=>(const MatmulKey&) const = default;
};

struct MatmulPlan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

using MatmulPlans = std::map<MatmulKey, MatmulPlan>;

}  // namespace molt::cuda
