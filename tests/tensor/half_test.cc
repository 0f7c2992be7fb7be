#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace molt {
namespace {

TEST(RoundToF16, KeepsEveryHalf) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Float16 half{static_cast<std::uint16_t>(bits)};
    const float value = half.to_float();
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(round_to_f16(value).to_float()));
    } else {
      EXPECT_EQ(round_to_f16(value).bits, bits);
    }
  }
}

// Between two neighbours: to the nearer, in the middle to the one whose last bit is 0.
TEST(RoundToF16, RoundsToNearestAndTiesToEven) {
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float low = Float16{static_cast<std::uint16_t>(bits)}.to_float();
    const float high = bits + 1 < 0x7c00 ? Float16{static_cast<std::uint16_t>(bits + 1)}.to_float() : 65536.0F;
    const float middle = (low + high) / 2;
    for (const float sign : {1.0F, -1.0F}) {
      const std::uint32_t top = sign < 0 ? 0x8000 : 0;
      EXPECT_EQ(round_to_f16(sign * std::nextafter(middle, low)).bits, top | bits);
      EXPECT_EQ(round_to_f16(sign * middle).bits, top | (bits + (bits & 1)));
      EXPECT_EQ(round_to_f16(sign * std::nextafter(middle, high)).bits, top | (bits + 1));
    }
  }
}

TEST(RoundToF16, OverflowsToInfinity) {
  EXPECT_EQ(round_to_f16(1e30F).bits, 0x7c00);
  EXPECT_EQ(round_to_f16(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
}

}  // namespace
}  // namespace molt
