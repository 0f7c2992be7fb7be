// Products with two weights of every four columns, against the definition in double precision, on every instruction set
// that this machine has.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/restore.h"

namespace molt {
namespace {

using testing_kernels::Restore;

constexpr float kUntouched = -12345.0F;  // what y holds where nothing may be written

float rounded(float value) {
  return BFloat16::from_float(value).to_float();
}

/// At most two weights in every four columns, all ways to choose them alike; some groups have one or none.
Tensor random_pairs(std::int64_t n, std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Tensor weight = Tensor::zeros(DType::f32, {n, k});
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t group = 0; group < k; group += 4) {
      for (int i = 0; i < 2; ++i) {
        const std::int64_t column = group + static_cast<std::int64_t>(random() % 4);
        if (column < k) weight.as<float>()[row * k + column] = normal(random);
      }
    }
  }
  return weight;
}

std::vector<float> random_inputs(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

struct Problem {
  std::int64_t rows, k, n;
  bool bias = false;
  std::int64_t gap = 0;    // of strides beyond the columns
  std::int64_t first = 0;  // output
};

class Product {
 public:
  explicit Product(const Problem& p)
      : p_(p),
        weight_(random_pairs(p.n, p.k, 1)),
        packed_(CpuBackend().pack(weight_, DType::bf16)),
        x_(random_inputs(p.rows * stride(), 2)),
        bias_(random_inputs(p.n, 3)) {
    EXPECT_NE(dynamic_cast<const PairPanels*>(packed_.get()), nullptr);
  }

  std::vector<float> compute() const { return compute(0, p_.rows); }

  /// Rows [begin, end) alone.
  std::vector<float> compute(std::int64_t begin, std::int64_t end) const {
    std::vector<float> y(static_cast<std::size_t>((end - begin) * (outputs() + p_.gap)), kUntouched);
    CpuBackend().matmul({x_.data() + begin * stride(), end - begin, p_.k, stride()}, *packed_,
                        p_.bias ? bias_.data() : nullptr, {y.data(), end - begin, outputs(), outputs() + p_.gap},
                        p_.first);
    return y;
  }

  void expect_right(const std::vector<float>& y, const std::string& what) const {
    for (std::int64_t t = 0; t < p_.rows; ++t) {
      const float* const row = y.data() + t * (outputs() + p_.gap);
      for (std::int64_t o = 0; o < outputs(); ++o) {
        double sum = p_.bias ? static_cast<double>(bias_[static_cast<std::size_t>(p_.first + o)]) : 0;
        double size = std::abs(sum) + 1e-6;
        for (std::int64_t k = 0; k < p_.k; ++k) {
          const double product = static_cast<double>(rounded(weight_.as<float>()[(p_.first + o) * p_.k + k])) *
                                 static_cast<double>(rounded(x_[static_cast<std::size_t>(t * stride() + k)]));
          sum += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(row[o], sum, 2e-6 * size) << what << ", row " << t << ", output " << o;
      }
      for (std::int64_t o = outputs(); o < outputs() + p_.gap; ++o) ASSERT_EQ(row[o], kUntouched) << what;
    }
  }

 private:
  std::int64_t stride() const { return p_.k + p_.gap; }
  std::int64_t outputs() const { return p_.n - p_.first; }

  Problem p_;
  Tensor weight_;
  std::unique_ptr<PackedMatrix> packed_;
  std::vector<float> x_;
  std::vector<float> bias_;
};

const std::vector<Problem>& problems() {
  static const std::vector<Problem> all = {{1, 32, 1},
                                           {1, 64, 64},
                                           {3, 33, 65, true},
                                           {5, 70, 130, true, 3},
                                           {1, 512, 200},
                                           {9, 96, 100, true},
                                           {200, 40, 70, true, 1},
                                           {4, 128, 192, true, 0, 100},
                                           {2, 100, 64, false, 0, 63}};
  return all;
}

std::string name_of(const Problem& p) {
  return std::to_string(p.rows) + " rows of " + std::to_string(p.k) + " to " + std::to_string(p.n);
}

TEST(PairMatmul, IsTheProductOnEveryInstructionSet) {
  const Restore restore;
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    for (const Problem& p : problems()) {
      const Product product(p);
      product.expect_right(product.compute(), isa + ": " + name_of(p));
    }
  }
}

// Bit for bit the same, whatever other rows are in the call and for any number of threads.
TEST(PairMatmul, DoesNotDependOnOtherRowsNorOnThreads) {
  const Restore restore;
  const Problem p{11, 96, 200, true};
  for (const std::string& isa : available_isas()) {
    use_isa(isa);
    const Product product(p);
    set_num_threads(1);
    const std::vector<float> all = product.compute();
    for (std::int64_t t = 0; t < p.rows; ++t) {
      const std::vector<float> one = product.compute(t, t + 1);
      EXPECT_EQ(std::memcmp(one.data(), all.data() + t * p.n, one.size() * sizeof(float)), 0) << isa << ", row " << t;
    }
    set_num_threads(3);
    EXPECT_EQ(product.compute(), all) << isa;
  }
}

TEST(PairMatmul, TakesPairsOnly) {
  const CpuBackend cpu;
  Tensor weight = random_pairs(70, 64, 4);
  const auto is_paired = [&](const Tensor& w, DType dtype) {
    return dynamic_cast<const PairPanels*>(cpu.pack(w, dtype).get()) != nullptr;
  };
  EXPECT_TRUE(is_paired(weight, DType::bf16));
  EXPECT_FALSE(is_paired(weight, DType::f32));  // asked for in full precision
  EXPECT_FALSE(is_paired(random_pairs(70, 28, 4), DType::bf16));
  const auto packed = cpu.pack(weight, DType::bf16);
  EXPECT_EQ(packed->bytes(), 2 * 64 * 64 * 9 / 8);  // two panels, 9 bits a weight
  // One group with three weights, in the last row.
  for (int i = 0; i < 3; ++i) weight.as<float>()[69 * 64 + 60 + i] = 1;
  EXPECT_FALSE(is_paired(weight, DType::bf16));
}

}  // namespace
}  // namespace molt
