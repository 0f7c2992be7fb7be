// The kernels of row matching as the tables list them: packing, rounding, and the greatest of rows, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/problems.h"

namespace molt::testing_kernels {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

class MatchingKernels : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernels() const { return *kernels_for(GetParam()); }
};

// The panels of weights are packed by other code: it is what these are compared with.
TEST_P(MatchingKernels, PackRowsAsWeightsArePacked) {
  Random random(71);
  for (const int count : {1, 3, 16, 17, 40, 63, 64}) {
    for (const std::int64_t columns : {1, 2, 15, 16, 31, 32, 33, 64, 95, 130}) {
      std::vector<Floats> rows;  // each ends where its memory ends, for the sanitizer
      std::vector<const float*> pointers;
      Floats factors;
      for (int i = 0; i < count; ++i) factors.push_back(random.uniform(0.5F, 2));
      const Tensor scaled = Tensor::zeros(DType::f32, {count, columns});
      for (int i = 0; i < count; ++i) {
        rows.push_back(random.normals(columns));
        for (std::int64_t k = 0; k < columns; ++k) {
          scaled.as<float>()[i * columns + k] =
              rows.back()[static_cast<std::size_t>(k)] * factors[static_cast<std::size_t>(i)];
        }
      }
      for (const Floats& row : rows) pointers.push_back(row.data());
      const auto want = pack_panels(scaled, DType::bf16);
      std::vector<char> panel(static_cast<std::size_t>(want->bytes()), 99);
      kernels().pack_scaled_rows(pointers.data(), factors.data(), count, columns, padded_columns(columns) / 2,
                                 panel.data());
      const auto* const panels = dynamic_cast<const PackedPanels*>(want.get());
      ASSERT_NE(panels, nullptr);
      EXPECT_EQ(std::memcmp(panel.data(), panels->panel(0), panel.size()), 0) << count << " by " << columns;
    }
  }
}

TEST_P(MatchingKernels, RoundScaledRowsAsOthers) {
  Random random(72);
  for (const std::int64_t columns : {1, 15, 16, 33, 100}) {
    const Floats x = random.normals(columns);
    Floats scaled = x;
    for (float& value : scaled) value *= 0.37F;
    const std::int64_t padded = padded_columns(columns);
    std::vector<char> want(static_cast<std::size_t>(padded * kernels().rounded_bytes), 1), got(want.size(), 2);
    kernels().round_row(scaled.data(), columns, padded, want.data());
    kernels().round_scaled_row(x.data(), 0.37F, columns, padded, got.data());
    EXPECT_EQ(got, want) << columns;
  }
}

TEST_P(MatchingKernels, FindTheGreatestAndAllThatReachIt) {
  Random random(73);
  constexpr std::int64_t kRows = 5, kStride = 67;
  for (std::int64_t n = 1; n <= 64; ++n) {
    Floats x = random.normals(kRows * kStride);
    for (std::int64_t k = 0; k < n; ++k) {
      x[1 * kStride + k] = -std::fabs(x[1 * kStride + k]) - 1;              // all below zero
      x[2 * kStride + k] = std::nanf("");                                   // none is a number
      if (k % 3 == 0) x[3 * kStride + k] = std::nanf("");                   // some are
      x[4 * kStride + k] = k + 1 == n ? 3.0F : -static_cast<float>(k) - 1;  // the last
    }
    x[kRows * kStride - 1] = 1e9F;  // behind a row's columns, as far as they do not reach there
    Floats greatest(kRows + 1, 7.0F);
    kernels().greatest_of_rows(x.data(), kStride, kRows, n, greatest.data());
    EXPECT_EQ(greatest[kRows], 7.0F);
    for (std::int64_t r = 0; r < kRows; ++r) {
      float want = kNothing;
      for (std::int64_t k = 0; k < n; ++k) {
        if (x[r * kStride + k] > want) want = x[r * kStride + k];
      }
      EXPECT_EQ(greatest[static_cast<std::size_t>(r)], want) << n << " columns, row " << r;
      for (const float least : {want, want - 0.5F, 0.0F, kNothing}) {
        std::uint64_t bits = 0;
        for (std::int64_t k = 0; k < n; ++k) bits |= std::uint64_t{x[r * kStride + k] >= least} << k;
        EXPECT_EQ(kernels().at_least(x.data() + r * kStride, n, least), bits) << n << " columns, row " << r;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, MatchingKernels, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace molt::testing_kernels
