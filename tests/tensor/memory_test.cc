// The host's memory: placing and fetching give back what they are given; strided rows are fetched as they are.
#include "tensor/memory.h"

#include <gtest/gtest.h>

#include <numeric>

namespace molt {
namespace {

TEST(HostMemory, PlacesAndFetchesWithoutACopy) {
  const Memory& memory = host_memory();
  const Tensor tensor = Tensor::zeros(DType::f32, {3, 4});
  EXPECT_TRUE(memory.is_host());
  EXPECT_EQ(memory.place(tensor).data(), tensor.data());
  EXPECT_EQ(memory.fetch(tensor).data(), tensor.data());
  EXPECT_TRUE(memory.place(Tensor()).empty());
}

TEST(HostMemory, FetchesRowsWithGaps) {
  std::vector<float> values(20);
  std::iota(values.begin(), values.end(), 0.0F);
  const Tensor rows = host_memory().fetch(Matrix<const float>(values.data() + 1, 3, 2, 7));
  EXPECT_EQ(rows.shape(), (Shape{3, 2}));
  EXPECT_EQ(std::vector<float>(rows.as<float>(), rows.as<float>() + 6), (std::vector<float>{1, 2, 8, 9, 15, 16}));
}

TEST(HostMemory, CopiesAndClears) {
  const Memory& memory = host_memory();
  const Tensor ones = Tensor::uninitialized(DType::u8, {8});
  std::fill_n(ones.as<std::uint8_t>(), 8, 1);
  const Tensor bytes = memory.zeros(DType::u8, {8});
  memory.copy(ones.data(), bytes.data() + 2, 3);
  EXPECT_EQ(std::accumulate(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + 8, 0), 3);
  EXPECT_EQ(bytes.as<std::uint8_t>()[2], 1);
  memory.clear(bytes.data(), 8);
  EXPECT_EQ(std::accumulate(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + 8, 0), 0);
  memory.copy(ones.data(), bytes.data(), 0);
}

}  // namespace
}  // namespace molt
