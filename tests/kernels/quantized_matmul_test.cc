// Products with quantized weights, against the definition in double precision: inputs rounded by the same rule, sums of
// a block exact.
#include "kernels/cpu/quantized_matmul.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/restore.h"

namespace molt {
namespace {

using testing_kernels::Restore;

constexpr float kUntouched = -12345.0F;  // what y holds where nothing may be written

/// A block of inputs, rounded as quantized_gemm.cc says.
struct RoundedBlock {
  float scale = 0;
  std::vector<int> codes;
};

RoundedBlock round_block(const float* x, std::int64_t count) {
  RoundedBlock block;
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
  const float inverse = largest >= 1e-30F ? 127 / largest : 0.0F;
  block.scale = largest >= 1e-30F ? largest / 127 : 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    const float scaled = x[i] * inverse;
    block.codes.push_back(static_cast<int>(std::nearbyint(std::min(127.0F, std::max(-127.0F, scaled)))));
  }
  return block;
}

/// Any codes, also such as no method would choose.
QuantizedMatrix random_matrix(const QuantizedFormat& format, std::int64_t n, std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(0, format.max_code());
  std::uniform_real_distribution<float> scale(0.0F, 0.02F);
  QuantizedMatrix matrix(format, n, k);
  for (std::int64_t i = 0; i < n * k; ++i) matrix.codes.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(code(random));
  for (std::int64_t i = 0; i < matrix.scales.size(); ++i) {
    matrix.scales.as<BFloat16>()[i] = BFloat16::from_float(scale(random));
    matrix.zeros.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(code(random));
  }
  return matrix;
}

/// Gaussian, with some outliers and a stretch of zeros, as activations have them.
std::vector<float> random_inputs(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random) * (random() % 97 == 0 ? 50.0F : 1.0F);
  for (std::size_t i = values.size() / 3; i < values.size() / 3 + 70 && i < values.size(); ++i) values[i] = 0;
  return values;
}

struct Problem {
  QuantizedFormat format;
  std::int64_t rows, k, n;
  bool bias = false;
  std::int64_t x_gap = 0, y_gap = 0;  // strides beyond the columns
  std::int64_t first = 0;             // output
  unsigned seed = 1;
};

class Product {
 public:
  explicit Product(const Problem& p)
      : p_(p),
        weight_(random_matrix(p.format, p.n, p.k, p.seed)),
        packed_(weight_),
        x_(random_inputs(p.rows * (p.k + p.x_gap), p.seed + 1)),
        bias_(random_inputs(p.n, p.seed + 2)) {}

  Matrix<const float> x() const { return {x_.data(), p_.rows, p_.k, p_.k + p_.x_gap}; }
  const QuantizedMatrix& weight() const { return weight_; }
  const QuantizedPanels& packed() const { return packed_; }

  std::vector<float> compute() const {
    const std::int64_t cols = p_.n - p_.first;
    std::vector<float> y(static_cast<std::size_t>(p_.rows * (cols + p_.y_gap)), kUntouched);
    quantized_matmul(x(), packed_, p_.bias ? bias_.data() : nullptr, {y.data(), p_.rows, cols, cols + p_.y_gap},
                     p_.first);
    return y;
  }

  /// The largest error of an element relative to the magnitudes that it was summed from.
  double error(const std::vector<float>& y) const {
    const std::int64_t block = packed_.block();
    const std::int64_t cols = p_.n - p_.first;
    double worst = 0;
    for (std::int64_t t = 0; t < p_.rows; ++t) {
      std::vector<RoundedBlock> blocks;
      for (std::int64_t k = 0; k < p_.k; k += block) {
        blocks.push_back(round_block(x().row(t) + k, std::min(block, p_.k - k)));
      }
      const float* row = y.data() + t * (cols + p_.y_gap);
      for (std::int64_t o = 0; o < cols; ++o) {
        const auto [sum, magnitude] = output(blocks, block, p_.first + o);
        const double off = std::abs(static_cast<double>(row[o]) - sum) / magnitude;
        if (!(off <= worst)) worst = off;  // a NaN stays
      }
      for (std::int64_t o = cols; o < cols + p_.y_gap; ++o) {
        if (row[o] != kUntouched) return std::numeric_limits<double>::infinity();
      }
    }
    return worst;
  }

 private:
  std::pair<double, double> output(const std::vector<RoundedBlock>& blocks, std::int64_t block, std::int64_t n) const {
    double sum = p_.bias ? static_cast<double>(bias_[static_cast<std::size_t>(n)]) : 0.0;
    double magnitude = std::abs(sum) + 1e-30;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const std::int64_t first = static_cast<std::int64_t>(b) * block;
      const std::int64_t g = n * weight_.groups() + first / weight_.group();
      const QuantizedGrid grid{weight_.scales.as<BFloat16>()[g], weight_.zeros.as<std::uint8_t>()[g]};
      std::int64_t dot = 0;
      for (std::size_t i = 0; i < blocks[b].codes.size(); ++i) {
        const int code = weight_.codes.as<std::uint8_t>()[n * p_.k + first + static_cast<std::int64_t>(i)];
        dot += (code - grid.zero) * blocks[b].codes[i];
      }
      const double term =
          static_cast<double>(grid.scale.to_float()) * static_cast<double>(blocks[b].scale) * static_cast<double>(dot);
      sum += term;
      magnitude += std::abs(term);
    }
    return {sum, magnitude};
  }

  Problem p_;
  QuantizedMatrix weight_;
  QuantizedPanels packed_;
  std::vector<float> x_, bias_;
};

// Sums in float32 of the scaled sums of up to 60 blocks.
constexpr double kTolerance = 1e-6;

constexpr QuantizedFormat kFormats[] = {{8, 0}, {4, 32}, {4, 64}, {4, 128}};

class QuantizedMatmul : public testing::TestWithParam<std::tuple<std::string, QuantizedFormat>> {
 protected:
  void SetUp() override { use_isa(std::get<0>(GetParam())); }
  QuantizedFormat format() const { return std::get<1>(GetParam()); }

 private:
  Restore restore_;
};

TEST_P(QuantizedMatmul, FewRows) {
  for (std::int64_t rows = 1; rows <= 14; ++rows) {
    const Product product({.format = format(), .rows = rows, .k = 200, .n = 131, .bias = rows % 2 == 0});
    EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows";
  }
}

TEST_P(QuantizedMatmul, ManyRows) {
  for (const std::int64_t rows : {100, 193, 400}) {
    for (const std::int64_t k : {96, 128}) {
      const Product product({.format = format(), .rows = rows, .k = k, .n = 80, .bias = true});
      EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows, K " << k;
    }
  }
}

TEST_P(QuantizedMatmul, AwkwardShapes) {
  for (const std::int64_t k : {1, 3, 31, 32, 48, 64, 65, 97, 130, 257}) {
    for (const std::int64_t n : {1, 15, 16, 17, 63, 64, 65, 80}) {
      for (const std::int64_t rows : {1, 3, 8}) {
        const Product product({.format = format(), .rows = rows, .k = k, .n = n, .bias = true, .x_gap = 3, .y_gap = 5});
        EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows, K " << k << ", N " << n;
      }
    }
  }
}

TEST_P(QuantizedMatmul, LongSums) {
  for (const std::int64_t rows : {1, 7}) {
    const Product product({.format = format(), .rows = rows, .k = 3001, .n = 70});
    EXPECT_LE(product.error(product.compute()), kTolerance) << rows << " rows";
  }
}

TEST_P(QuantizedMatmul, PartOfTheOutputs) {
  for (const std::int64_t first : {1, 63, 64, 70, 130}) {
    const Product product(
        {.format = format(), .rows = 9, .k = 100, .n = 131, .bias = true, .y_gap = 2, .first = first});
    EXPECT_LE(product.error(product.compute()), kTolerance) << "from output " << first;
  }
}

TEST_P(QuantizedMatmul, RowsDoNotDependOnOthersNorOnThreads) {
  const Product product({.format = format(), .rows = 41, .k = 333, .n = 200, .bias = true});
  set_num_threads(1);
  const std::vector<float> all = product.compute();
  for (const int threads : {2, 3, 8}) {
    set_num_threads(threads);
    EXPECT_EQ(product.compute(), all) << threads << " threads";
  }
  for (const std::int64_t count : {1, 2, 5, 13, 16, 20}) {
    std::vector<float> y(static_cast<std::size_t>(count * 200));
    const Product few({.format = format(), .rows = 41, .k = 333, .n = 200, .bias = true});
    quantized_matmul(few.x().row_range(20, 20 + count), few.packed(), nullptr, {y.data(), count, 200});
    std::vector<float> alone(200);
    quantized_matmul(few.x().row_range(20, 21), few.packed(), nullptr, {alone.data(), 1, 200});
    EXPECT_EQ(std::vector<float>(y.begin(), y.begin() + 200), alone) << "first of " << count << " rows";
  }
}

TEST_P(QuantizedMatmul, WhatIsNotFiniteStaysInItsRow) {
  const QuantizedMatrix weight = random_matrix(format(), 64, 150, 5);
  const QuantizedPanels packed(weight);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = random_inputs(3 * 150, 6);
    std::vector<float> clean(3 * 64), y(3 * 64);
    quantized_matmul({x.data(), 3, 150}, packed, nullptr, {clean.data(), 3, 64});
    x[150 + 77] = bad;
    quantized_matmul({x.data(), 3, 150}, packed, nullptr, {y.data(), 3, 64});
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i / 64 == 1) {
        EXPECT_FALSE(std::isfinite(y[i])) << "output " << i % 64;
      } else {
        EXPECT_EQ(y[i], clean[i]);
      }
    }
  }
}

TEST_P(QuantizedMatmul, TinyAndHugeInputs) {
  const QuantizedPanels packed(random_matrix(format(), 64, 64, 7));
  std::vector<float> x(64, 1e-38F), y(64, kUntouched);
  quantized_matmul({x.data(), 1, 64}, packed, nullptr, {y.data(), 1, 64});
  EXPECT_EQ(y, std::vector<float>(64, 0.0F));
  x.assign(64, 1e30F);
  quantized_matmul({x.data(), 1, 64}, packed, nullptr, {y.data(), 1, 64});
  for (const float value : y) EXPECT_TRUE(std::isfinite(value));
}

TEST_P(QuantizedMatmul, RandomProblems) {
  EXPECT_TRUE(rc::check([this] {
    const Problem problem{.format = format(),
                          .rows = *rc::gen::inRange<std::int64_t>(1, 30),
                          .k = *rc::gen::inRange<std::int64_t>(1, 300),
                          .n = *rc::gen::inRange<std::int64_t>(1, 150),
                          .bias = *rc::gen::arbitrary<bool>(),
                          .x_gap = *rc::gen::inRange<std::int64_t>(0, 5),
                          .y_gap = *rc::gen::inRange<std::int64_t>(0, 5),
                          .seed = *rc::gen::inRange(0U, 1000U)};
    const Product product(problem);
    RC_ASSERT(product.error(product.compute()) <= kTolerance);
  }));
}

TEST(QuantizedPanels, BlocksOfInputsKeepGroupsApartAndPaddingSmall) {
  const auto block = [](const QuantizedFormat& format, std::int64_t k) {
    return QuantizedPanels(QuantizedMatrix(format, 64, k)).block();
  };
  for (const std::int64_t k : {32, 96, 128}) EXPECT_EQ(block({4, 32}, k), 32) << k;
  for (const std::int64_t k : {32, 96, 128}) EXPECT_EQ(block({4, 64}, k), 64) << k;
  for (const std::int64_t k : {1, 32, 96, 160}) EXPECT_EQ(block({8, 0}, k), 32) << k;
  for (const std::int64_t k : {33, 64, 127, 128}) EXPECT_EQ(block({8, 0}, k), 64) << k;
  EXPECT_EQ(QuantizedPanels(QuantizedMatrix({8, 0}, 64, 96)).bytes(), 64 * 96 + kGroupHeadBytes);
}

TEST_P(QuantizedMatmul, EmbeddingReadsWhatThePackedMatrixHolds) {
  const QuantizedMatrix weight = random_matrix(format(), 150, 97, 3);
  const Tensor values = dequantize(weight);
  const CpuBackend cpu;
  const Backend& backend = cpu;
  const auto packed = backend.pack(weight);
  const std::vector<TokenId> ids = {149, 0, 63, 64, 128, 64};
  std::vector<float> y(ids.size() * 97);
  backend.embed(*packed, ids, {y.data(), static_cast<std::int64_t>(ids.size()), 97});
  for (std::size_t t = 0; t < ids.size(); ++t) {
    EXPECT_EQ(std::memcmp(y.data() + t * 97, values.as<float>() + ids[t] * 97, 97 * sizeof(float)), 0) << ids[t];
  }
}

TEST_P(QuantizedMatmul, IsNearTheReferenceOnPlainInputs) {
  // Rounding inputs to 8 bits costs little: the reference takes them as they are.
  const std::int64_t k = 512;
  const QuantizedMatrix weight = random_matrix(format(), 96, k, 11);
  std::mt19937 random(12);
  std::normal_distribution<float> normal;
  std::vector<float> x(5 * k);
  for (float& value : x) value = normal(random);
  const CpuBackend cpu;
  const ReferenceBackend reference;
  double off = 0, size = 0;
  std::vector<float> y(5 * 96), exact(5 * 96);
  for (const auto& [backend, to] : {std::pair<const Backend*, float*>(&cpu, y.data()), {&reference, exact.data()}}) {
    backend->matmul({x.data(), 5, k}, *backend->pack(weight), nullptr, {to, 5, 96});
  }
  for (std::size_t i = 0; i < y.size(); ++i) {
    off += std::pow(static_cast<double>(y[i]) - exact[i], 2);
    size += std::pow(static_cast<double>(exact[i]), 2);
  }
  EXPECT_LT(std::sqrt(off / size), 0.01);
  EXPECT_GT(off, 0);
}

INSTANTIATE_TEST_SUITE_P(Isas, QuantizedMatmul,
                         testing::Combine(testing::ValuesIn(available_isas()), testing::ValuesIn(kFormats)),
                         [](const auto& test) {
                           const QuantizedFormat& format = std::get<1>(test.param);
                           return std::get<0>(test.param) + "_int" + std::to_string(format.bits) + "_" +
                                  std::to_string(format.group);
                         });

/// Rounded inputs are the same integers and scales on every instruction set.
TEST(RoundBlocks, IsTheSameEverywhere) {
  for (const std::string& isa : available_isas()) {
    const Kernels& kernels = *kernels_for(isa);
    for (const int block : {32, 64}) {
      for (const std::int64_t n : {1, 31, 64, 200}) {
        const std::int64_t blocks = (n + block - 1) / block + 1;  // one beyond the inputs
        const std::vector<float> x = random_inputs(n, static_cast<unsigned>(n));
        const auto bytes = sizeof(BlockHead) + static_cast<std::size_t>(block * kernels.code_bytes);
        std::vector<char> rounded(bytes * static_cast<std::size_t>(blocks), 'x');
        kernels.round_blocks(x.data(), n, block, blocks, rounded.data());
        for (std::int64_t b = 0; b < blocks; ++b) {
          const std::int64_t count = std::max<std::int64_t>(0, std::min<std::int64_t>(block, n - b * block));
          const RoundedBlock expected = round_block(x.data() + std::min(n, b * block), count);
          const char* at = rounded.data() + static_cast<std::size_t>(b) * bytes;
          BlockHead head;
          std::memcpy(&head, at, sizeof(head));
          int sum = 0;
          for (const int code : expected.codes) sum += code;
          EXPECT_EQ(head.scale, expected.scale) << isa;
          EXPECT_EQ(head.negative_sum, -sum) << isa;
          for (int i = 0; i < block; ++i) {
            const int want = i < count ? expected.codes[static_cast<std::size_t>(i)] : 0;
            const char* codes = at + sizeof(head);
            if (kernels.code_bytes == 1) {
              EXPECT_EQ(static_cast<signed char>(codes[i]), want) << isa;
            } else if (kernels.code_bytes == 2) {  // columns 0, 2, 1, 3 of four
              constexpr int kPlace[] = {0, 2, 1, 3};
              std::int16_t code;
              std::memcpy(&code, codes + 2 * (i / 4 * 4 + kPlace[i % 4]), sizeof(code));
              EXPECT_EQ(code, want) << isa;
            } else {
              float code;
              std::memcpy(&code, codes + 4 * i, sizeof(code));
              EXPECT_EQ(code, static_cast<float>(want)) << isa;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace molt
