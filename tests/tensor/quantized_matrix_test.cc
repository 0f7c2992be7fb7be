#include "tensor/quantized_matrix.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <limits>
#include <random>

#include "molt/error.h"
#include "molt/threads.h"

namespace molt {
namespace {

constexpr QuantizedFormat kFormats[] = {{8, 0}, {4, 32}, {4, 64}, {4, 128}};

Tensor random_weight(std::int64_t n, std::int64_t k, unsigned seed, float mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, 0.02F);
  Tensor weight = Tensor::zeros(DType::f32, {n, k});
  for (std::int64_t i = 0; i < n * k; ++i) weight.as<float>()[i] = normal(random);
  return weight;
}

TEST(QuantizedFormat, FourAreValid) {
  for (const QuantizedFormat& format : kFormats) EXPECT_TRUE(is_valid(format));
  for (const QuantizedFormat& format : {QuantizedFormat{8, 64}, {4, 0}, {4, 16}, {3, 64}}) {
    EXPECT_FALSE(is_valid(format));
  }
}

TEST(QuantizedFormat, GroupsCoverTheColumns) {
  EXPECT_EQ((QuantizedFormat{4, 64}.groups_of(64)), 1);
  EXPECT_EQ((QuantizedFormat{4, 64}.groups_of(65)), 2);
  EXPECT_EQ((QuantizedFormat{4, 64}.groups_of(1)), 1);
  EXPECT_EQ((QuantizedFormat{8, 0}.groups_of(5000)), 1);
}

TEST(RoundToNearest, EveryCodeIsTheBestOfItsGrid) {
  for (const QuantizedFormat& format : kFormats) {
    for (const float mean : {0.0F, 0.05F}) {
      const Tensor weight = random_weight(7, 150, 1, mean);
      const QuantizedMatrix rounded = round_to_nearest(weight, format);
      const Tensor values = dequantize(rounded);
      for (std::int64_t n = 0; n < 7; ++n) {
        for (std::int64_t k = 0; k < 150; ++k) {
          const float w = weight.as<float>()[n * 150 + k];
          const std::int64_t g = n * rounded.groups() + k / rounded.group();
          const QuantizedGrid grid{rounded.scales.as<BFloat16>()[g], rounded.zeros.as<std::uint8_t>()[g]};
          float best = std::numeric_limits<float>::infinity();
          for (int code = 0; code <= format.max_code(); ++code) best = std::min(best, std::abs(grid.value(code) - w));
          EXPECT_LE(std::abs(values.as<float>()[n * 150 + k] - w), best * (1 + 1e-5F) + 1e-9F);
        }
      }
    }
  }
}

TEST(RoundToNearest, TheErrorIsHalfAStepAtMost) {
  for (const QuantizedFormat& format : kFormats) {
    const Tensor weight = random_weight(5, 256, 2);
    const QuantizedMatrix rounded = round_to_nearest(weight, format);
    const Tensor values = dequantize(rounded);
    for (std::int64_t i = 0; i < weight.size(); ++i) {
      const std::int64_t g = i / 256 * rounded.groups() + i % 256 / rounded.group();
      const float step = rounded.scales.as<BFloat16>()[g].to_float();
      // The scale is rounded to 8 bits: up to 2^-9 of the reach may be lost at its ends, here within a whole step.
      const float bound = format.bits == 8 ? step : 0.55F * step;
      EXPECT_LE(std::abs(values.as<float>()[i] - weight.as<float>()[i]), bound);
    }
  }
}

TEST(RoundToNearest, WhatLiesOnTheGridStays) {
  for (const QuantizedFormat& format : kFormats) {
    Tensor weight = Tensor::zeros(DType::f32, {1, 256});
    for (std::int64_t k = 0; k < 256; ++k) {
      weight.as<float>()[k] = 0.25F * static_cast<float>(format.bits == 8 ? k % 255 - 127 : k % 16 - 5);
    }
    const Tensor values = dequantize(round_to_nearest(weight, format));
    for (std::int64_t k = 0; k < 256; ++k) EXPECT_EQ(values.as<float>()[k], weight.as<float>()[k]);
  }
}

TEST(RoundToNearest, ZerosStayZeros) {
  for (const QuantizedFormat& format : kFormats) {
    Tensor weight = random_weight(3, 200, 3, 1.0F);
    for (std::int64_t k = 0; k < 200; ++k) weight.as<float>()[200 + k] = 0;
    const Tensor values = dequantize(round_to_nearest(weight, format));
    for (std::int64_t k = 0; k < 200; ++k) EXPECT_EQ(values.as<float>()[200 + k], 0.0F);
  }
}

TEST(RoundToNearest, FinerFormatsLoseLess) {
  const Tensor weight = random_weight(16, 512, 4);
  double last = 1e30;
  for (const QuantizedFormat& format : {QuantizedFormat{4, 128}, {4, 64}, {4, 32}, {8, 0}}) {
    const Tensor values = dequantize(round_to_nearest(weight, format));
    double error = 0;
    for (std::int64_t i = 0; i < weight.size(); ++i) {
      error += std::pow(static_cast<double>(values.as<float>()[i]) - weight.as<float>()[i], 2);
    }
    EXPECT_LT(error, last);
    last = error;
  }
}

TEST(RoundToNearest, DoesNotDependOnThreadsOrDType) {
  const Tensor weight = random_weight(50, 130, 5).to_bf16();
  const int threads = molt::num_threads();
  set_num_threads(1);
  const QuantizedMatrix one = round_to_nearest(weight, {4, 64});
  set_num_threads(4);
  const QuantizedMatrix four = round_to_nearest(weight.to_f32(), {4, 64});
  set_num_threads(threads);
  EXPECT_EQ(std::memcmp(one.codes.data(), four.codes.data(), static_cast<std::size_t>(one.codes.bytes())), 0);
  EXPECT_EQ(std::memcmp(one.scales.data(), four.scales.data(), static_cast<std::size_t>(one.scales.bytes())), 0);
  EXPECT_EQ(std::memcmp(one.zeros.data(), four.zeros.data(), static_cast<std::size_t>(one.zeros.bytes())), 0);
}

TEST(RoundToNearest, RefusesWhatIsNotFinite) {
  Tensor weight = random_weight(4, 70, 6);
  weight.as<float>()[2 * 70 + 69] = std::numeric_limits<float>::infinity();
  try {
    round_to_nearest(weight, {4, 32});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row 2, column 69"), std::string::npos) << error.what();
  }
}

TEST(Grid, HoldsZeroAndBothEnds) {
  EXPECT_TRUE(rc::check([] {
    const float a = static_cast<float>(*rc::gen::inRange(-100000, 100000)) * 1e-3F;
    const float b = static_cast<float>(*rc::gen::inRange(-100000, 100000)) * 1e-3F;
    const float low = std::min(a, b);
    const float high = std::max(a, b);
    for (const int bits : {4, 8}) {
      const QuantizedGrid grid = make_grid(low, high, bits);
      const float step = grid.scale.to_float();
      for (const float value : {low, 0.0F, high}) {
        RC_ASSERT(std::abs(grid.value(nearest_code(grid, value, bits)) - value) <=
                  0.6F * step + 0.005F * std::abs(value));
      }
      RC_ASSERT(grid.value(nearest_code(grid, 0, bits)) == 0.0F);
    }
  }));
}

}  // namespace
}  // namespace molt
