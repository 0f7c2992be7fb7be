// GPTQ: against rounding, against steps computed by hand, and against exhaustive search.
#include "compress/gptq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "compress/grid_search.h"
#include "compress/inverse_factor.h"
#include "compress/output_error.h"
#include "molt/error.h"
#include "molt/threads.h"
#include "tests/compress/problems.h"

namespace molt {
namespace {

using testing_compress::moments_of;
using testing_compress::plain_error;
using testing_compress::random_moments;
using testing_compress::random_weight;
using testing_compress::Rows;

constexpr QuantizedFormat kFormats[] = {{8, 0}, {4, 32}, {4, 64}, {4, 128}};

InputMoments uncorrelated(std::int64_t width) {
  Rows sums(static_cast<std::size_t>(width), std::vector<double>(static_cast<std::size_t>(width), 0.0));
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i][i] = 1;
  return moments_of(sums, width);
}

QuantizedGrid grid_of(const QuantizedMatrix& matrix, std::int64_t n, std::int64_t k) {
  const std::int64_t at = n * matrix.groups() + k / matrix.group();
  return {matrix.scales.as<BFloat16>()[at], matrix.zeros.as<std::uint8_t>()[at]};
}

std::uint8_t& code_of(const QuantizedMatrix& matrix, std::int64_t n, std::int64_t k) {
  return matrix.codes.as<std::uint8_t>()[n * matrix.in_features() + k];
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

TEST(Gptq, LosesLessThanRoundingAndEachStepLessThanTheOneBefore) {
  for (const QuantizedFormat& format : kFormats) {
    for (const std::int64_t width : {20, 96, 200}) {
      const Tensor weight = random_weight(19, width, static_cast<std::uint64_t>(width));
      const InputMoments inputs = random_moments(width, 7);
      const double rounding = plain_error(weight, dequantize(round_to_nearest(weight, format)), inputs);
      const auto error = [&](const GptqOptions& options) {
        return plain_error(weight, dequantize(gptq(weight, format, inputs, options)), inputs);
      };
      const double compensated = error({.damping = 0.01, .by_activation = false, .sweeps = 0});
      const double ordered = error({.damping = 0.01, .by_activation = true, .sweeps = 0});
      const double swept = error({.damping = 0.01, .by_activation = true, .sweeps = 3});
      EXPECT_LT(compensated, 0.8 * rounding) << to_string(format) << ", " << width << " columns";
      EXPECT_LT(ordered, 0.8 * rounding) << to_string(format) << ", " << width << " columns";
      EXPECT_LT(swept, ordered) << to_string(format) << ", " << width << " columns";
    }
  }
}

// Without correlations there is nothing to compensate: every code is the nearest of its group's grid.
TEST(Gptq, IsRoundingForUncorrelatedInputs) {
  for (const QuantizedFormat& format : kFormats) {
    const Tensor weight = random_weight(9, 150, 3);
    const QuantizedMatrix rounded = gptq(weight, format, uncorrelated(150), {.sweeps = 0});
    for (std::int64_t n = 0; n < 9; ++n) {
      for (std::int64_t k = 0; k < 150; ++k) {
        ASSERT_EQ(code_of(rounded, n, k),
                  nearest_code(grid_of(rounded, n, k), weight.as<float>()[n * 150 + k], format.bits));
      }
    }
    const InputMoments inputs = uncorrelated(150);
    EXPECT_LE(plain_error(weight, dequantize(rounded), inputs),
              plain_error(weight, dequantize(round_to_nearest(weight, format)), inputs));
  }
}

// Two columns: what the first loses moves the second's target by H01 / H11 of it.
TEST(Gptq, CompensatesAsComputedByHand) {
  const InputMoments inputs = moments_of({{5, 3}, {3, 2.5}}, 10);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Tensor weight = random_weight(1, 2, seed);
    const QuantizedMatrix rounded = gptq(weight, {8, 0}, inputs, {.damping = 0, .by_activation = false, .sweeps = 0});
    const QuantizedGrid grid = grid_of(rounded, 0, 0);
    const float* w = weight.as<float>();
    ASSERT_EQ(code_of(rounded, 0, 0), nearest_code(grid, w[0], 8));
    const double lost = static_cast<double>(w[0]) - grid.value(code_of(rounded, 0, 0));
    ASSERT_EQ(code_of(rounded, 0, 1), nearest_code(grid, static_cast<float>(w[1] + lost * 3 / 2.5), 8)) << seed;
  }
}

// With the inputs' order the larger column comes first, here the second.
TEST(Gptq, RoundsLargeInputsFirst) {
  const InputMoments inputs = moments_of({{2.5, 3}, {3, 5}}, 10);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Tensor weight = random_weight(1, 2, seed);
    const QuantizedMatrix rounded = gptq(weight, {8, 0}, inputs, {.damping = 0, .sweeps = 0});
    const QuantizedGrid grid = grid_of(rounded, 0, 0);
    const float* w = weight.as<float>();
    ASSERT_EQ(code_of(rounded, 0, 1), nearest_code(grid, w[1], 8));
    const double lost = static_cast<double>(w[1]) - grid.value(code_of(rounded, 0, 1));
    ASSERT_EQ(code_of(rounded, 0, 0), nearest_code(grid, static_cast<float>(w[0] + lost * 3 / 2.5), 8)) << seed;
  }
}

// Three columns in four bits: 4096 choices of codes. Descent ends where no single code can be moved with profit, and
// not far above the best choice of all.
TEST(Gptq, EndsInTheNeighbourhoodOfTheExhaustiveOptimum) {
  double found = 0;
  double best_possible = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Tensor weight = random_weight(1, 3, seed);
    const InputMoments inputs = random_moments(3, seed + 100);
    QuantizedMatrix rounded = gptq(weight, {4, 32}, inputs, {.damping = 0, .sweeps = 20});
    const double error = plain_error(weight, dequantize(rounded), inputs);
    const std::vector<std::uint8_t> codes = {code_of(rounded, 0, 0), code_of(rounded, 0, 1), code_of(rounded, 0, 2)};
    double best = std::numeric_limits<double>::infinity();
    for (int choice = 0; choice < 4096; ++choice) {
      int moved = 0;
      for (int k = 0; k < 3; ++k) {
        code_of(rounded, 0, k) = static_cast<std::uint8_t>(choice >> (4 * k) & 15);
        moved += code_of(rounded, 0, k) != codes[static_cast<std::size_t>(k)] ? 1 : 0;
      }
      const double other = plain_error(weight, dequantize(rounded), inputs);
      best = std::min(best, other);
      if (moved == 1) {
        EXPECT_GE(other, error * (1 - 1e-6)) << "seed " << seed << ", choice " << choice;
      }
    }
    found += error;
    best_possible += best;
  }
  EXPECT_GE(found, best_possible);
  EXPECT_LT(found, 4 * best_possible);
}

TEST(Gptq, IsTheSameForAnyNumberOfThreads) {
  const Tensor weight = random_weight(83, 140, 5);
  const InputMoments inputs = random_moments(140, 6);
  const int before = num_threads();
  set_num_threads(1);
  const QuantizedMatrix one = gptq(weight, {4, 32}, inputs);
  for (const int threads : {2, 4}) {
    set_num_threads(threads);
    const QuantizedMatrix many = gptq(weight, {4, 32}, inputs);
    EXPECT_TRUE(same(one.codes, many.codes) && same(one.scales, many.scales) && same(one.zeros, many.zeros));
  }
  set_num_threads(before);
}

// Inputs that were always 0 say nothing of their columns, and their columns say nothing of others.
TEST(Gptq, RoundsColumnsPlainlyWhoseInputIsAlwaysZero) {
  Rows sums(4, std::vector<double>(4, 0.0));
  sums[0] = {4, 0, 1, 0};
  sums[2] = {1, 0, 3, 0};
  const Tensor weight = random_weight(6, 4, 8);
  const QuantizedMatrix rounded = gptq(weight, {8, 0}, moments_of(sums, 5), {.sweeps = 0});
  for (std::int64_t n = 0; n < 6; ++n) {
    for (const std::int64_t k : {1, 3}) {
      EXPECT_EQ(code_of(rounded, n, k), nearest_code(grid_of(rounded, n, k), weight.as<float>()[n * 4 + k], 8));
    }
  }
}

TEST(Gptq, TakesSingularMomentsAndNoneAtAll) {
  const Tensor weight = random_weight(6, 40, 9);
  Rows sums(40, std::vector<double>(40, 2.0));  // of rank one
  for (const InputMoments& inputs : {moments_of(sums, 1), InputMoments(40)}) {
    for (const double damping : {0.0, 0.01}) {
      const QuantizedMatrix rounded = gptq(weight, {4, 32}, inputs, {.damping = damping});
      EXPECT_LE(plain_error(weight, dequantize(rounded), inputs),
                plain_error(weight, dequantize(round_to_nearest(weight, {4, 32})), inputs) + 1e-12);
    }
  }
}

TEST(Gptq, RoundsZerosToZeros) {
  const Tensor weight = Tensor::zeros(DType::f32, {5, 64});
  for (const QuantizedFormat& format : kFormats) {
    const Tensor values = dequantize(gptq(weight, format, random_moments(64, 1)));
    EXPECT_TRUE(same(values, weight)) << to_string(format);
  }
}

// What was pruned stays pruned, and costs less than rounding to nearest, which keeps zeros, too.
TEST(Gptq, KeepsZerosAmongOthers) {
  Tensor weight = random_weight(12, 130, 4);
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    if (i % 4 == 1 || i % 4 == i / 130 % 2 * 2) weight.as<float>()[i] = 0;
  }
  const InputMoments inputs = random_moments(130, 5);
  for (const QuantizedFormat& format : kFormats) {
    const Tensor values = dequantize(gptq(weight, format, inputs));
    const Tensor nearest = dequantize(round_to_nearest(weight, format));
    for (std::int64_t i = 0; i < weight.size(); ++i) {
      if (weight.as<float>()[i] != 0) continue;
      ASSERT_EQ(values.as<float>()[i], 0) << to_string(format) << ", " << i;
      ASSERT_EQ(nearest.as<float>()[i], 0) << to_string(format) << ", " << i;
    }
    EXPECT_LT(plain_error(weight, values, inputs), 0.8 * plain_error(weight, nearest, inputs)) << to_string(format);
  }
}

TEST(Gptq, RefusesWhatIsNotFinite) {
  Tensor weight = random_weight(3, 8, 1);
  Rows sums(8, std::vector<double>(8, 0.0));
  sums[2][2] = std::numeric_limits<double>::infinity();
  EXPECT_THROW(gptq(weight, {8, 0}, moments_of(sums, 1)), Error);
  weight.as<float>()[2 * 8 + 5] = std::numeric_limits<float>::quiet_NaN();
  try {
    gptq(weight, {8, 0}, uncorrelated(8));
    FAIL() << "a weight that is no number was rounded";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("row 2, column 5"));
  }
}

TEST(OutputError, IsThatOfPlainLoops) {
  const Tensor weight = random_weight(33, 45, 1);
  const Tensor other = random_weight(33, 45, 2);
  const InputMoments inputs = random_moments(45, 3);
  const double expected = plain_error(weight, other, inputs);
  EXPECT_NEAR(output_error(weight, other, inputs), expected, 1e-9 * expected);
}

TEST(InverseFactor, IsUpperAndItsSquareTheInverse) {
  const InputMoments inputs = random_moments(30, 4);
  std::vector<std::int64_t> order;
  for (std::int64_t k = 0; k < 30; ++k) order.push_back((k * 7 + 3) % 30);
  MatrixXd hessian = damped_hessian(inputs, order, 0.02);
  double mean = 0;
  for (std::int64_t k = 0; k < 30; ++k) mean += inputs.products()(k, k) / 30;
  for (std::size_t i = 0; i < 30; ++i) {
    for (std::size_t j = 0; j < 30; ++j) {
      const double expected = inputs.products()(order[i], order[j]) + (i == j ? 0.02 * mean : 0);
      ASSERT_NEAR(hessian(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)), expected, 1e-12 * mean);
    }
  }
  const MatrixXd upper = inverse_factor(hessian);
  EXPECT_TRUE(upper.isUpperTriangular());
  EXPECT_TRUE((upper.transpose() * upper * hessian).isIdentity(1e-9));
}

TEST(SearchGrid, IsNoWorseThanTheWholeRange) {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> values(static_cast<std::size_t>(1 + random.next() % 40));
    std::vector<double> importance(values.size());
    const double shift = random.uniform(-2, 2);
    for (double& value : values) value = shift + random.normal();
    for (double& weight : importance) weight = std::exp(2 * random.normal());
    for (const int bits : {4, 8}) {
      const auto loss = [&](const QuantizedGrid& grid) {
        double sum = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double lost = values[i] - grid.value(nearest_code(grid, static_cast<float>(values[i]), bits));
          sum += importance[i] * lost * lost;
        }
        return sum;
      };
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      const QuantizedGrid whole = make_grid(static_cast<float>(*low), static_cast<float>(*high), bits);
      EXPECT_LE(loss(search_grid(values, importance, bits)), loss(whole) * (1 + 1e-5));
    }
  }
}

TEST(SearchGrid, FindsTheGridOfValuesThatLieOnOne) {
  const QuantizedGrid grid{BFloat16::from_float(0.0625F), 6};
  std::vector<double> values;
  for (int code = 0; code < 16; ++code) values.push_back(grid.value(code));
  const QuantizedGrid found = search_grid(values, std::vector<double>(16, 1.0), 4);
  EXPECT_EQ(found.scale.to_float(), grid.scale.to_float());
  EXPECT_EQ(found.zero, grid.zero);
}

}  // namespace
}  // namespace molt
