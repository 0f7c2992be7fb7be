#include "io/untrusted.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace molt {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST(Untrusted, QuotesWhateverANameHolds) {
  EXPECT_EQ(quote("plain"), "`plain`");
  EXPECT_EQ(quote(std::string_view("a\n\0\x1b\xff", 5)), "`a\\x0a\\x00\\x1b\\xff`");
  const std::string quoted = quote("begin" + std::string(1'000'000, 'x') + "end");
  EXPECT_LT(quoted.size(), 200U);
  EXPECT_TRUE(quoted.starts_with("`begin"));
  EXPECT_TRUE(quoted.ends_with("end`"));
}

TEST(Untrusted, CheckedProductsStopAtTheirLimit) {
  EXPECT_EQ(checked_product(3, 4), 12);
  EXPECT_EQ(checked_product(kMax, 1), kMax);
  EXPECT_EQ(checked_product(kMax, 0), 0);
  EXPECT_EQ(checked_product(kMax / 2 + 1, 2), std::nullopt);
}

TEST(Untrusted, CheckedBytesOfShapes) {
  EXPECT_EQ(checked_bytes({}, DType::f32), 4);
  EXPECT_EQ(checked_bytes({2, 3}, DType::bf16), 12);
  EXPECT_EQ(checked_bytes({2, 0, 3}, DType::f64), 0);
  EXPECT_EQ(checked_bytes({kMax}, DType::u8), kMax);
  EXPECT_EQ(checked_bytes({kMax}, DType::f16), std::nullopt);
  EXPECT_EQ(checked_bytes({kMax, 2, 0}, DType::u8), std::nullopt);
  EXPECT_EQ(checked_bytes({2, -1}, DType::u8), std::nullopt);
}

TEST(Untrusted, LoadsLittleEndianIntegers) {
  const std::byte bytes[] = {std::byte{0xff}, std::byte{1}, std::byte{2}, std::byte{3}, std::byte{0x84}};
  EXPECT_EQ(load_little_endian<std::uint16_t>(bytes, 0), 0x01ff);
  EXPECT_EQ(load_little_endian<std::uint32_t>(bytes, 1), 0x84030201U);
}

}  // namespace
}  // namespace molt
