// The vector functions of every instruction set over dense sweeps of their arguments, against double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/select.h"
#include "tests/kernels/isas.h"
#include "tests/kernels/vector_functions.h"

namespace molt::testing_kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

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

TEST_P(VecMath, StaysWithinTheErrorsMeasuredOverAllFloats) {
  constexpr std::uint32_t kStep = 1009;  // a prime: meets every exponent and all patterns of low bits
  const Kernels* const isa = &kernels();
  for (const VectorFunction& function : vector_functions()) {
    SCOPED_TRACE(function.name);
    const WorstError worst = sweep(function, {&isa, 1}, 0, ~std::uint32_t{0}, kStep).front();
    EXPECT_LE(worst.ulp, function.ulp) << "at " << worst.at;
    EXPECT_GT(worst.ulp, 0.25) << "the sweep has measured nothing";
    EXPECT_LE(worst.absolute, function.absolute);
    EXPECT_EQ(worst.wrong, 0);
  }
}

TEST(Ulps, CountsUnitsOfTheLastPlace) {
  EXPECT_EQ(ulps(1.0F, 1.0), 0);
  EXPECT_EQ(ulps(1.0F + 0x1p-23F, 1.0), 1);
  EXPECT_EQ(ulps(-3.0F, -3.0 - 0x1p-23), 0.5);
  EXPECT_EQ(ulps(0.0F, 0x1p-149), 1);
  EXPECT_EQ(ulps(0x1p-126F, 0.0), 0x1p23);
  EXPECT_EQ(ulps(kInfinity, 1e300), 0);
  EXPECT_EQ(ulps(std::numeric_limits<float>::max(), 1e300), 0.5) << "of the unit of 2^128";
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

TEST_P(VecMath, SiluAndSoftplusOfSpecialValues) {
  EXPECT_TRUE(std::isnan(silu(kNan)));
  EXPECT_EQ(silu(kInfinity), kInfinity);
  EXPECT_EQ(silu(-1e30F), 0.0F);
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

INSTANTIATE_TEST_SUITE_P(Isas, VecMath, testing::ValuesIn(testing_kernels::isas_of_other_ops()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace molt::testing_kernels
