// exp, silu and softplus of every instruction set over dense sweeps of their arguments, against double precision.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/select.h"

namespace molt {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Floats from both zeros outwards to +-`limit`, dense in their bits, plus a fine grid around zero's neighbourhood.
std::vector<float> sweep(float limit) {
  std::vector<float> values;
  const auto top = std::bit_cast<std::uint32_t>(limit);
  for (std::uint32_t bits = 0; bits < top; bits += 4099) {
    values.push_back(std::bit_cast<float>(bits));
    values.push_back(-std::bit_cast<float>(bits));
  }
  for (int i = -100'000; i <= 100'000; ++i) values.push_back(limit * static_cast<float>(i) / 100'000);
  return values;
}

/// |got - want| in units of the last place of float32 at `want`.
double ulps(float got, double want) {
  const double magnitude = std::max(std::fabs(want), 0x1p-126);
  const double unit = std::ldexp(1.0, std::ilogb(magnitude) - 23);
  return std::fabs(static_cast<double>(got) - want) / unit;
}

class VecMath : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernels() const { return *kernels_for(GetParam()); }
  float exp(float x) const {
    kernels().exp(&x, &x, 1);
    return x;
  }
  float silu(float z) const {
    const float one = 1;
    kernels().silu_gate(&one, &z, &z, 1);
    return z;
  }
  float softplus(float x) const {
    kernels().softplus(&x, nullptr, -kInfinity, kInfinity, &x, 1);
    return x;
  }
};

TEST_P(VecMath, ExpIsWithinTwoUlp) {
  const std::vector<float> x = sweep(110);
  std::vector<float> y(x.size());
  kernels().exp(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    if (static_cast<float>(want) == kInfinity) {
      ASSERT_EQ(y[i], kInfinity) << x[i];
    } else {
      worst = std::max(worst, ulps(y[i], want));
      ASSERT_LE(ulps(y[i], want), 2.0) << "exp(" << x[i] << ") = " << y[i];
    }
  }
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST_P(VecMath, ExpOfSpecialValues) {
  EXPECT_EQ(exp(0.0F), 1.0F);
  EXPECT_EQ(exp(-0.0F), 1.0F);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_EQ(exp(-kInfinity), 0.0F);
  EXPECT_EQ(exp(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(exp(std::numeric_limits<float>::lowest()), 0.0F);
  EXPECT_TRUE(std::isnan(exp(kNan)));
}

TEST_P(VecMath, SiluHasSmallRelativeError) {
  const std::vector<float> z = sweep(200);
  const std::vector<float> ones(z.size(), 1.0F);
  std::vector<float> y(z.size());
  kernels().silu_gate(ones.data(), z.data(), y.data(), static_cast<std::int64_t>(z.size()));
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double want = z[i] / (1 + std::exp(-static_cast<double>(z[i])));
    // Below about -88 e^-z is no float any more and the result is zero instead of less than 1e-36.
    ASSERT_LE(std::fabs(y[i] - want), 1e-6 * std::fabs(want) + 1e-36) << "silu(" << z[i] << ") = " << y[i];
  }
  EXPECT_TRUE(std::isnan(silu(kNan)));
  EXPECT_EQ(silu(kInfinity), kInfinity);
  EXPECT_EQ(silu(-1e30F), 0.0F);
}

TEST_P(VecMath, SoftplusHasSmallRelativeError) {
  const std::vector<float> x = sweep(200);
  std::vector<float> y(x.size());
  kernels().softplus(x.data(), nullptr, -kInfinity, kInfinity, y.data(), static_cast<std::int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double want = std::fmax(v, 0) + std::log1p(std::exp(-std::fabs(v)));
    ASSERT_LE(std::fabs(y[i] - want), 1e-6 * want + 3e-45) << "softplus(" << x[i] << ") = " << y[i];
  }
  EXPECT_TRUE(std::isnan(softplus(kNan)));
  EXPECT_EQ(softplus(kInfinity), kInfinity);
  EXPECT_EQ(softplus(-kInfinity), 0.0F);
}

TEST_P(VecMath, SoftplusClamps) {
  std::vector<float> x{-50, 0, 50, kNan};
  kernels().softplus(x.data(), nullptr, 0.5F, 0.6F, x.data(), 4);
  EXPECT_EQ(x[0], 0.5F);
  EXPECT_EQ(x[1], 0.6F);
  EXPECT_EQ(x[2], 0.6F);
  EXPECT_TRUE(std::isnan(x[3]));
}

INSTANTIATE_TEST_SUITE_P(Isas, VecMath, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace molt
