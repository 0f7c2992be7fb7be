// Small problems for the tests of compression: random weights, and inputs whose columns are correlated and differ in
// size.
#pragma once

#include <cmath>
#include <vector>

#include "base/random.h"
#include "compress/moments.h"
#include "tensor/tensor.h"

namespace molt::testing_compress {

using Rows = std::vector<std::vector<double>>;

inline Tensor random_weight(std::int64_t out, std::int64_t in, std::uint64_t seed) {
  Random random(seed);
  Tensor weight = Tensor::uninitialized(DType::f32, {out, in});
  for (std::int64_t i = 0; i < weight.size(); ++i) weight.as<float>()[i] = static_cast<float>(0.05 * random.normal());
  return weight;
}

/// [rows, width]: each column a mixture of its own noise and of what all share, some columns much larger than others.
inline Tensor random_inputs(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> size;
  for (std::int64_t k = 0; k < width; ++k) size.push_back(std::exp(1.2 * random.normal()));
  Tensor inputs = Tensor::uninitialized(DType::f32, {rows, width});
  for (std::int64_t t = 0; t < rows; ++t) {
    const double common = random.normal();
    double last = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      last = 0.6 * last + random.normal();
      inputs.as<float>()[t * width + k] = static_cast<float>(size[static_cast<std::size_t>(k)] * (last + 0.7 * common));
    }
  }
  return inputs;
}

/// sum of x x' by plain loops.
inline Rows second_moments(Matrix<const float> x) {
  Rows sums(static_cast<std::size_t>(x.cols), std::vector<double>(static_cast<std::size_t>(x.cols), 0.0));
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < x.cols; ++i) {
      for (std::int64_t j = 0; j < x.cols; ++j) {
        sums[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] += static_cast<double>(x(t, i)) * x(t, j);
      }
    }
  }
  return sums;
}

inline InputMoments moments_of(const Rows& sums, std::int64_t rows) {
  InputMoments moments(std::ssize(sums));
  moments.rows = rows;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    for (std::size_t j = 0; j < sums.size(); ++j) moments.second.as<double>()[i * sums.size() + j] = sums[i][j];
  }
  return moments;
}

inline InputMoments random_moments(std::int64_t width, std::uint64_t seed) {
  const std::int64_t rows = 4 * width;
  return moments_of(second_moments(random_inputs(rows, width, seed).matrix()), rows);
}

/// tr((W - Q) H (W - Q)') by plain loops.
inline double plain_error(const Tensor& weight, const Tensor& rounded, const InputMoments& moments) {
  const std::int64_t width = weight.shape()[1];
  double error = 0;
  for (std::int64_t n = 0; n < weight.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < width; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        const auto lost = [&](std::int64_t k) {
          return static_cast<double>(weight.as<float>()[n * width + k]) - rounded.as<float>()[n * width + k];
        };
        error += lost(i) * moments.products()(i, j) * lost(j);
      }
    }
  }
  return error;
}

}  // namespace molt::testing_compress
