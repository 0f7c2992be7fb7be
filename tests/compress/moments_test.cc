// InputMoments: against plain double loops, for any layout of the rows, any number of threads.
#include "compress/moments.h"

#include <gtest/gtest.h>

#include <cstring>

#include "molt/threads.h"
#include "tests/compress/problems.h"

namespace molt {
namespace {

using testing_compress::random_inputs;
using testing_compress::Rows;
using testing_compress::second_moments;

void expect_near(const InputMoments& moments, const Rows& expected) {
  ASSERT_EQ(moments.width(), std::ssize(expected));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t j = 0; j < expected.size(); ++j) {
      const double scale = std::sqrt(expected[i][i] * expected[j][j]);
      EXPECT_NEAR(moments.products()(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)), expected[i][j],
                  2e-6 * scale)
          << i << ", " << j;
    }
  }
}

TEST(InputMoments, AreTheSumsOfProducts) {
  const auto backend = make_backend("cpu");
  for (const auto& [rows, width] : {std::pair{1, 1}, {3, 7}, {40, 64}, {300, 150}, {2500, 20}}) {
    const Tensor x = random_inputs(rows, width, 1);
    InputMoments moments(width);
    moments.add(x.matrix(), *backend);
    EXPECT_EQ(moments.rows, rows);
    expect_near(moments, second_moments(x.matrix()));
  }
}

TEST(InputMoments, AddUpOverCallsAndTakeColumnsOfAWiderMatrix) {
  const auto backend = make_backend("cpu");
  const Tensor wide = random_inputs(90, 50, 2);
  const Matrix<const float> x = wide.matrix().col_range(11, 44);
  InputMoments moments(33);
  moments.add(Matrix<const float>(x.data, 30, 33, x.stride), *backend);
  moments.add(Matrix<const float>(x.row(30), 60, 33, x.stride), *backend);
  EXPECT_EQ(moments.rows, 90);
  expect_near(moments, second_moments(x));
}

TEST(InputMoments, AreTheSameBitsForAnyNumberOfThreads) {
  const auto backend = make_backend("cpu");
  const Tensor x = random_inputs(500, 200, 3);
  const int before = num_threads();
  InputMoments one(200);
  set_num_threads(1);
  one.add(x.matrix(), *backend);
  for (const int threads : {2, 5}) {
    set_num_threads(threads);
    InputMoments many(200);
    many.add(x.matrix(), *backend);
    EXPECT_EQ(std::memcmp(one.second.data(), many.second.data(), static_cast<std::size_t>(one.second.bytes())), 0);
  }
  set_num_threads(before);
}

TEST(InputMoments, NormsAreThoseOfTheColumns) {
  const auto backend = make_backend("cpu");
  Tensor x = Tensor::zeros(DType::f32, {2, 3});
  x.as<float>()[0] = 3;
  x.as<float>()[3] = 4;
  x.as<float>()[4] = -2;
  InputMoments moments(3);
  moments.add(x.matrix(), *backend);
  EXPECT_EQ(moments.norms(), (std::vector<double>{5, 2, 0}));
}

}  // namespace
}  // namespace molt
