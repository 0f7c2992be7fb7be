// The CPU backend's packed matrices and their products, against a plain loop in double precision.
#include "kernels/cpu/matmul.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/select.h"
#include "molt/error.h"
#include "tests/kernels/restore.h"

namespace molt {
namespace {

using testing_kernels::Restore;

constexpr float kUntouched = -12345.0F;  // what y holds where nothing may be written

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// A float in IEEE half precision, truncated: exact enough to make weights of. |value| < 60000; tiny ones become zero.
Float16 half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value * 0x1p-112F);
  return {static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | (bits >> 13 & 0x7fffU))};
}

/// A [rows, cols] tensor of `dtype` whose data begin `misalign` bytes off an allocation's start.
Tensor tensor_of(const std::vector<float>& values, std::int64_t rows, std::int64_t cols, DType dtype, int misalign) {
  const auto bytes = static_cast<std::size_t>(rows * cols * size_of(dtype));
  const std::shared_ptr<std::byte[]> buffer(new std::byte[bytes + static_cast<std::size_t>(misalign)]);
  std::byte* data = buffer.get() + misalign;
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto put = [&](auto element) { std::memcpy(data + i * sizeof(element), &element, sizeof(element)); };
    switch (dtype) {
      case DType::f32: put(values[i]); break;
      case DType::f64: put(static_cast<double>(values[i])); break;
      case DType::bf16: put(BFloat16::from_float(values[i])); break;
      case DType::f16: put(half(values[i])); break;
      default: ADD_FAILURE();
    }
  }
  return {dtype, {rows, cols}, data, buffer};
}

/// A product with everything that may vary, and its result in double precision.
struct Problem {
  std::int64_t rows, k, n;
  DType from = DType::f32;  // of the weights as given
  DType dtype = DType::f32;
  bool bias = false;
  std::int64_t x_gap = 0, y_gap = 0;  // strides beyond the columns
  int misalign = 0;
  unsigned seed = 1;
};

/// Rows of a matrix, `stride` floats apart.
struct Rows {
  std::vector<float> values;
  std::int64_t stride;
  const float* row(std::int64_t t) const { return values.data() + t * stride; }
};

class Product {
 public:
  explicit Product(const Problem& problem) : p_(problem) {
    x_ = random_floats(size(p_.rows, p_.k + p_.x_gap), p_.seed);
    bias_ = random_floats(static_cast<std::size_t>(p_.n), p_.seed + 1);
    const Tensor weight = tensor_of(random_floats(size(p_.n, p_.k), p_.seed + 2), p_.n, p_.k, p_.from, p_.misalign);
    packed_ = pack_panels(weight, p_.dtype);
    weight_ = weight.to_f32();
  }

  const PackedMatrix& packed() const { return *packed_; }
  Matrix<const float> x() const { return {x_.data(), p_.rows, p_.k, p_.k + p_.x_gap}; }

  /// y with its gaps, as the kernels leave it.
  std::vector<float> compute() const {
    std::vector<float> y(size(p_.rows, p_.n + p_.y_gap), kUntouched);
    panel_matmul(x(), *packed_, p_.bias ? bias_.data() : nullptr, {y.data(), p_.rows, p_.n, p_.n + p_.y_gap});
    return y;
  }

  /// `cols` outputs from `first` on, with a gap of one after each row.
  Rows compute_outputs(std::int64_t first, std::int64_t cols) const {
    Rows y{std::vector<float>(size(p_.rows, cols + 1), kUntouched), cols + 1};
    panel_matmul(x(), *packed_, p_.bias ? bias_.data() : nullptr, {y.values.data(), p_.rows, cols, cols + 1}, first);
    return y;
  }

  /// The largest error of any element, relative to the sum of the magnitudes that it was summed from; infinity when
  /// something beyond the matrix was written.
  double error(const std::vector<float>& y) const {
    double worst = 0;
    const bool rounded = p_.dtype == DType::bf16;
    const auto* weight = weight_.as<float>();
    for (std::int64_t t = 0; t < p_.rows; ++t) {
      const float* row = y.data() + t * (p_.n + p_.y_gap);
      for (std::int64_t o = 0; o < p_.n; ++o) {
        double sum = p_.bias ? static_cast<double>(bias_[static_cast<std::size_t>(o)]) : 0;
        double magnitude = std::abs(sum) + 1e-30;
        for (std::int64_t k = 0; k < p_.k; ++k) {
          const float a = x()(t, k);
          const float b = weight[o * p_.k + k];
          const double product = rounded ? static_cast<double>(BFloat16::from_float(a).to_float()) *
                                               static_cast<double>(BFloat16::from_float(b).to_float())
                                         : static_cast<double>(a) * static_cast<double>(b);
          sum += product;
          magnitude += std::abs(product);
        }
        const double off = std::abs(static_cast<double>(row[o]) - sum) / magnitude;
        if (!(off <= worst)) worst = off;  // a NaN stays
      }
      for (std::int64_t o = p_.n; o < p_.n + p_.y_gap; ++o) {
        if (row[o] != kUntouched) return std::numeric_limits<double>::infinity();
      }
    }
    return worst;
  }

 private:
  static std::size_t size(std::int64_t rows, std::int64_t cols) { return static_cast<std::size_t>(rows * cols); }

  Problem p_;
  std::vector<float> x_, bias_;
  Tensor weight_;
  std::unique_ptr<PackedMatrix> packed_;
};

// Sums in float32 of up to 3000 terms, in order: the errors random-walk to a few units in the last place.
constexpr double kTolerance = 1e-6;

class Matmul : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  void SetUp() override { use_isa(std::get<0>(GetParam())); }
  DType dtype() const { return std::get<1>(GetParam()); }

 private:
  Restore restore_;
};

TEST_P(Matmul, FewRows) {
  for (std::int64_t rows = 1; rows <= 20; ++rows) {
    const Product product({.rows = rows, .k = 50, .n = 131, .dtype = dtype(), .bias = rows % 2 == 0});
    EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows";
  }
}

TEST_P(Matmul, ManyRows) {
  for (const std::int64_t rows : {100, 129, 513}) {
    const Product product({.rows = rows, .k = 64, .n = 80, .dtype = dtype(), .bias = true});
    EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows";
  }
}

TEST_P(Matmul, AwkwardShapes) {
  for (const std::int64_t k : {1, 2, 5, 16, 31, 48, 64, 97}) {
    for (const std::int64_t n : {1, 15, 16, 17, 63, 64, 65, 80, 97, 200}) {
      for (const std::int64_t rows : {1, 3, 8}) {
        const Product product({.rows = rows, .k = k, .n = n, .dtype = dtype(), .bias = true, .x_gap = 3, .y_gap = 5});
        EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows, K " << k << ", N " << n;
      }
    }
  }
}

TEST_P(Matmul, LongSums) {
  // Beyond the number of steps that the kernels take in one go.
  for (const std::int64_t k : {1024, 1025, 2047, 2049, 3000}) {
    for (const std::int64_t rows : {1, 2, 13}) {
      const Product product({.rows = rows, .k = k, .n = 97, .dtype = dtype(), .bias = true, .y_gap = 1});
      EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows, K " << k;
    }
  }
}

TEST_P(Matmul, ShapesOfAModel) {
  const Product product({.rows = 9, .k = 768, .n = 3352, .dtype = dtype()});
  EXPECT_LE(product.error(product.compute()), kTolerance);
}

TEST_P(Matmul, EverySourceDtypeAtAnyAlignment) {
  for (const DType from : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    for (const int misalign : {0, 1, 2, 3}) {
      const Product product({.rows = 2, .k = 53, .n = 70, .from = from, .dtype = dtype(), .misalign = misalign});
      EXPECT_LE(product.error(product.compute()), kTolerance) << name_of(from) << " off by " << misalign;
    }
  }
}

TEST_P(Matmul, ThreadsDoNotChangeABit) {
  for (const std::int64_t rows : {1, 5, 40, 400}) {
    const Product product({.rows = rows, .k = 300, .n = 1000, .dtype = dtype(), .bias = true});
    set_num_threads(1);
    const std::vector<float> one = product.compute();
    for (const int threads : {2, 5}) {
      set_num_threads(threads);
      EXPECT_EQ(one, product.compute()) << rows << " rows, " << threads << " threads";
    }
  }
}

TEST_P(Matmul, OtherRowsDoNotChangeABit) {
  const std::int64_t n = 200;
  const Product product({.rows = 250, .k = 1100, .n = n, .dtype = dtype(), .bias = false});
  const std::vector<float> all = product.compute();
  for (const std::int64_t first : {0, 7, 191, 249}) {
    for (const std::int64_t rows : {1, 2, 6, 15, 16, 17, 32, 33, 59, 130}) {
      const std::int64_t end = std::min<std::int64_t>(250, first + rows);
      std::vector<float> some(static_cast<std::size_t>((end - first) * n));
      panel_matmul(product.x().row_range(first, end), product.packed(), nullptr, {some.data(), end - first, n});
      EXPECT_EQ(0, std::memcmp(some.data(), all.data() + first * n, some.size() * sizeof(float)))
          << "rows " << first << " to " << end;
    }
  }
}

TEST_P(Matmul, SomeOutputsAreTheSameBits) {
  for (const std::int64_t rows : {1, 7, 250}) {
    const std::int64_t n = 331;
    const Product product({.rows = rows, .k = 1100, .n = n, .dtype = dtype(), .bias = true});
    const std::vector<float> all = product.compute();
    for (const std::int64_t first : {0, 1, 63, 64, 100, 128, 300, 331}) {
      for (const std::int64_t width : {0, 1, 5, 64, 130, 331}) {
        const std::int64_t cols = std::min(width, n - first);
        const Rows some = product.compute_outputs(first, cols);
        for (std::int64_t t = 0; t < rows; ++t) {
          ASSERT_EQ(
              0, std::memcmp(some.row(t), all.data() + t * n + first, static_cast<std::size_t>(cols) * sizeof(float)))
              << cols << " outputs from " << first << " on, row " << t << " of " << rows;
          ASSERT_EQ(some.row(t)[cols], kUntouched);
        }
      }
    }
  }
}

TEST_P(Matmul, NothingToDo) {
  EXPECT_TRUE(Product({.rows = 0, .k = 8, .n = 8, .dtype = dtype()}).compute().empty());
  EXPECT_TRUE(Product({.rows = 3, .k = 8, .n = 0, .dtype = dtype()}).compute().empty());
  const Product empty_sum({.rows = 3, .k = 0, .n = 70, .dtype = dtype(), .bias = true});
  EXPECT_EQ(empty_sum.error(empty_sum.compute()), 0);
}

TEST_P(Matmul, AnyProblem) {
  const DType to = dtype();
  EXPECT_TRUE(rc::check([to] {
    const Problem problem{.rows = *rc::gen::inRange<std::int64_t>(1, 40),
                          .k = *rc::gen::inRange<std::int64_t>(1, 150),
                          .n = *rc::gen::inRange<std::int64_t>(1, 300),
                          .from = *rc::gen::element(DType::f32, DType::bf16, DType::f16),
                          .dtype = to,
                          .bias = *rc::gen::arbitrary<bool>(),
                          .x_gap = *rc::gen::inRange<std::int64_t>(0, 20),
                          .y_gap = *rc::gen::inRange<std::int64_t>(0, 20),
                          .misalign = *rc::gen::inRange(0, 8),
                          .seed = *rc::gen::inRange(0U, 1000U)};
    const Product product(problem);
    RC_ASSERT(product.error(product.compute()) <= kTolerance);
  }));
}

INSTANTIATE_TEST_SUITE_P(
    Isas, Matmul, testing::Combine(testing::ValuesIn(available_isas()), testing::Values(DType::f32, DType::bf16)),
    [](const auto& test) { return std::get<0>(test.param) + "_" + std::string(name_of(std::get<1>(test.param))); });

TEST(MatmulInBf16, RoundsToNearestEvenAndKeepsNaN) {
  const Restore restore;
  const std::vector<float> values = {1.0F,
                                     1.00390625F,  // a tie: down, to even
                                     1.01171875F,  // a tie: up, to even
                                     -1.00390625F,
                                     1.0039063F,
                                     3.3895314e38F,
                                     3.4e38F,
                                     -0.0F,
                                     1e-30F,
                                     std::numeric_limits<float>::infinity(),
                                     -std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN(),
                                     std::bit_cast<float>(0x7f800001U)};  // a NaN whose upper half is infinity's
  const float one = 1;
  const auto packed = pack_panels(tensor_of({one}, 1, 1, DType::f32, 0), DType::bf16);
  for (const std::string& isa : available_isas())
    for (const float value : values) {
      use_isa(isa);
      const float expected = BFloat16::from_float(value).to_float();
      float y = kUntouched;
      panel_matmul({&value, 1, 1}, *packed, nullptr, {&y, 1, 1});
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(y)) << value << " on " << isa;
      } else {
        EXPECT_EQ(y, expected) << value << " on " << isa;
      }
    }
}

TEST(PackedPanels, LayoutIsAsDocumented) {
  const std::int64_t n = 70, k = 21;
  std::vector<float> values(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);  // exact in bfloat16
  const Tensor weight = tensor_of(values, n, k, DType::f32, 0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto matrix = pack_panels(weight, dtype);
    const auto& packed = dynamic_cast<const PackedPanels&>(*matrix);
    EXPECT_EQ(packed.out_features(), n);
    EXPECT_EQ(packed.in_features(), k);
    EXPECT_EQ(packed.dtype(), dtype);
    EXPECT_EQ(packed.panels(), 2);
    EXPECT_EQ(packed.panel_bytes(), dtype == DType::f32 ? 32 * 64 * 4 : 32 * 64 * 2);
    EXPECT_EQ(packed.bytes(), 2 * packed.panel_bytes());
    for (std::int64_t output = 0; output < 128; ++output) {
      for (std::int64_t i = 0; i < 32; ++i) {
        const float expected = output < n && i < k ? values[static_cast<std::size_t>(output * k + i)] : 0.0F;
        const std::byte* panel = packed.panel(output / 64);
        const std::int64_t o = output % 64;
        float found = 0;
        if (dtype == DType::f32) {
          std::memcpy(&found, panel + (i * 64 + o) * 4, 4);
        } else {
          BFloat16 element;
          std::memcpy(&element, panel + ((i / 2 * 64 + o) * 2 + i % 2) * 2, 2);
          found = element.to_float();
        }
        ASSERT_EQ(found, expected) << name_of(dtype) << " output " << output << " k " << i;
      }
    }
  }
}

TEST(PackedPanels, AreAlignedAndIndependent) {
  const Tensor ones = tensor_of(std::vector<float>(70 * 5, 1.0F), 70, 5, DType::f32, 0);
  const Tensor twos = tensor_of(std::vector<float>(70 * 5, 2.0F), 70, 5, DType::f32, 0);
  auto first = pack_panels(ones, DType::f32);
  const auto second = pack_panels(twos, DType::f32);
  for (const PackedMatrix* matrix : {first.get(), second.get()}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(dynamic_cast<const PackedPanels&>(*matrix).panel(0)) % 64, 0);
  }
  const std::vector<float> x(5, 1.0F);
  std::vector<float> y(70);
  panel_matmul({x.data(), 1, 5}, *first, nullptr, {y.data(), 1, 70});
  EXPECT_EQ(y, std::vector<float>(70, 5.0F));
  first.reset();
  panel_matmul({x.data(), 1, 5}, *second, nullptr, {y.data(), 1, 70});
  EXPECT_EQ(y, std::vector<float>(70, 10.0F));
}

TEST(PackedPanels, RefusesWeightsThatAreNotFloats) {
  const Tensor weight = Tensor::zeros(DType::i32, {2, 2});
  EXPECT_THROW(pack_panels(weight, DType::f32), Error);
  EXPECT_THROW(pack_panels(weight, DType::bf16), Error);
}

}  // namespace
}  // namespace molt
