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

Moments::Moments(std::int64_t width) : width_(width), products_(Tensor::zeros(DType::f64, {width, width})) {}

void Moments::add(Matrix<const float> x, const Backend& backend) {
  MOLT_CHECK(x.cols == width_);
  auto* const sums = products_.as<double>();
  Tensor band = Tensor::uninitialized(DType::f32, {std::min(kBand, width_), width_});
  for (std::int64_t first = 0; first < x.rows; first += kChunk) {
    const Tensor columns = transposed(x.row_range(first, std::min(x.rows, first + kChunk)));
    const auto packed = backend.pack(columns, DType::f32);
    for (std::int64_t begin = 0; begin < width_; begin += kBand) {
      const std::int64_t end = std::min(width_, begin + kBand);
      const Matrix<float> product(band.as<float>(), end - begin, end);
      backend.matmul(columns.matrix().row_range(begin, end), *packed, nullptr, product);
      parallel_for(product.rows, 16, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t i = from; i < to; ++i) {
          const std::int64_t row = begin + i;
          for (std::int64_t j = 0; j <= row; ++j) {
            sums[row * width_ + j] += static_cast<double>(product(i, j));
            sums[j * width_ + row] = sums[row * width_ + j];
          }
        }
      });
    }
  }
  rows_ += x.rows;
}

std::vector<double> Moments::norms() const {
  std::vector<double> norms;
  for (std::int64_t j = 0; j < width_; ++j) norms.push_back(std::sqrt(products()(j, j)));
  return norms;
}

}  // namespace molt
