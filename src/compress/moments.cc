#include "compress/moments.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/parallel.h"

namespace molt {
namespace {

constexpr std::int64_t kChunk = 2048;  // rows that are summed in float32
constexpr std::int64_t kBand = 128;    // rows of H that are computed at once, up to the diagonal

/// x [T, K] as [K, T].
Tensor transposed(Matrix<const float> x) {
  Tensor t = Tensor::uninitialized(DType::f32, {x.cols, x.rows});
  const Matrix<float> to = t.matrix();
  parallel_for(x.cols, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = 0; row < x.rows; ++row) {
      for (std::int64_t k = begin; k < end; ++k) to(k, row) = x(row, k);
    }
  });
  return t;
}

}  // namespace

void InputMoments::add(Matrix<const float> x, const Backend& backend) {
  MOLT_CHECK(x.cols == width());
  const std::int64_t cols = x.cols;
  auto* const sums = second.as<double>();
  Tensor band = Tensor::uninitialized(DType::f32, {std::min(kBand, cols), cols});
  for (std::int64_t first = 0; first < x.rows; first += kChunk) {
    const Tensor columns = transposed(x.row_range(first, std::min(x.rows, first + kChunk)));
    const auto packed = backend.pack(columns, DType::f32);
    for (std::int64_t begin = 0; begin < cols; begin += kBand) {
      const std::int64_t end = std::min(cols, begin + kBand);
      const Matrix<float> product(band.as<float>(), end - begin, end);
      backend.matmul(columns.matrix().row_range(begin, end), *packed, nullptr, product);
      parallel_for(product.rows, 16, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t i = from; i < to; ++i) {
          const std::int64_t row = begin + i;
          for (std::int64_t j = 0; j <= row; ++j) {
            sums[row * cols + j] += static_cast<double>(product(i, j));
            sums[j * cols + row] = sums[row * cols + j];
          }
        }
      });
    }
  }
  rows += x.rows;
}

std::vector<double> InputMoments::norms() const {
  std::vector<double> result;
  for (std::int64_t j = 0; j < width(); ++j) result.push_back(std::sqrt(products()(j, j)));
  return result;
}

}  // namespace molt
