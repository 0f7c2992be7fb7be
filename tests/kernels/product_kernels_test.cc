// The kernels of matrix products as the tables list them: that they stay within their memory, and that tiles (AMX) give
// the bits which their order of summation and the vector kernels say.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/quantized_matmul.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/restore.h"

namespace molt {
namespace {

using testing_kernels::Restore;

constexpr const char* kTiles = "avx512_amx";
constexpr const char* kVectors = "avx512_bf16";

/// `bytes` bytes, all zero, that end where no memory is; aligned to 64 bytes if their number is.
class Guarded {
 public:
  explicit Guarded(std::size_t bytes) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t usable = (bytes + page - 1) / page * page;
    mapped_ = usable + page;
    mapping_ = static_cast<char*>(::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mapping_ == MAP_FAILED) throw std::bad_alloc();
    if (::mprotect(mapping_ + usable, page, PROT_NONE) != 0) throw std::bad_alloc();
    data_ = mapping_ + usable - bytes;
  }
  ~Guarded() { ::munmap(mapping_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  void* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  std::size_t count() const { return bytes_ / sizeof(float); }

 private:
  std::size_t bytes_, mapped_;
  char* mapping_;
  char* data_;
};

class ProductKernels : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernels() const { return *kernels_for(GetParam()); }
};

TEST_P(ProductKernels, StayWithinTheirMemory) {
  // A fault is the failure. Rows of all sizes of a tile's rest, outputs of all of a vector's.
  for (const std::int64_t rows : {1, 2, 7, 15, 16, 17, 31, 33, 48, 97, 130}) {
    for (const int outputs : {1, 16, 17, 33, 48, 64}) {
      const std::int64_t elements = 96, steps = elements / 2;
      const Guarded x(static_cast<std::size_t>(rows * elements * kernels().rounded_bytes));
      const Guarded panel(static_cast<std::size_t>(steps * kPanelStepBytes));
      const Guarded bias(static_cast<std::size_t>(outputs) * sizeof(float));
      const Guarded y(static_cast<std::size_t>(rows * outputs) * sizeof(float));
      std::fill_n(bias.floats(), bias.count(), 2.5F);
      kernels().multiply_panel_bf16({.x = x.data(),
                                     .x_stride = elements,
                                     .rows = rows,
                                     .panel = panel.data(),
                                     .next = panel.data(),
                                     .steps = steps,
                                     .outputs = outputs,
                                     .bias = bias.floats(),
                                     .y = y.floats(),
                                     .y_stride = outputs});
      EXPECT_EQ(std::count(y.floats(), y.floats() + y.count(), 2.5F), rows * outputs) << rows << " by " << outputs;
    }
  }
}

TEST_P(ProductKernels, QuantizedStayWithinTheirMemory) {
  struct Format {
    int bits, block;
    std::int64_t groups, group_blocks;
  };
  for (const Format& format : {Format{8, 64, 1, 7}, {4, 32, 13, 1}, {4, 64, 7, 1}, {4, 64, 4, 2}}) {
    for (const std::int64_t rows : {1, 7, 15, 16, 17, 31, 33, 193}) {
      for (const int outputs : {1, 17, 48, 64}) {
        const std::int64_t blocks = format.groups * format.group_blocks;
        const std::int64_t x_stride =
            blocks * (static_cast<std::int64_t>(sizeof(BlockHead)) + format.block * kernels().code_bytes);
        const std::int64_t steps = blocks * format.block * format.bits / 32;
        const Guarded x(static_cast<std::size_t>(rows * x_stride));
        const Guarded panel(static_cast<std::size_t>(format.groups * kGroupHeadBytes + steps * kPanelStepBytes));
        const Guarded bias(static_cast<std::size_t>(outputs) * sizeof(float));
        const Guarded y(static_cast<std::size_t>(rows * outputs) * sizeof(float));
        std::fill_n(bias.floats(), bias.count(), 2.5F);
        const QuantizedProduct product{.x = x.data(),
                                       .x_stride = x_stride,
                                       .rows = rows,
                                       .panel = panel.data(),
                                       .next = panel.data(),
                                       .groups = format.groups,
                                       .group_blocks = format.group_blocks,
                                       .block = format.block,
                                       .outputs = outputs,
                                       .bias = bias.floats(),
                                       .y = y.floats(),
                                       .y_stride = outputs};
        format.bits == 8 ? kernels().multiply_panel_int8(product) : kernels().multiply_panel_int4(product);
        EXPECT_EQ(std::count(y.floats(), y.floats() + y.count(), 2.5F), rows * outputs)
            << format.bits << " bits, " << rows << " by " << outputs;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ProductKernels, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return test.param; });

/// What is skipped where the machine has no tiles.
class TileProducts : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels_for(kTiles) == nullptr) GTEST_SKIP() << "this machine has no " << kTiles;
  }

  std::vector<float> random_floats(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal_(random_);
    return values;
  }

  std::mt19937 random_{11};

 private:
  std::normal_distribution<float> normal_;
  Restore restore_;
};

TEST_F(TileProducts, SumInTheOrderOfTheInstruction) {
  use_isa(kTiles);
  const std::int64_t k = 330, n = 70;
  const std::vector<float> weights = random_floats(n * k), bias = random_floats(n);
  const Tensor weight = Tensor::zeros(DType::f32, {n, k});
  std::copy(weights.begin(), weights.end(), weight.as<float>());
  const auto packed = pack_panels(weight, DType::bf16);
  const auto element = [](const float* row, std::int64_t i) {
    return i < k ? BFloat16::from_float(row[i]).to_float() : 0.0F;
  };
  for (const std::int64_t rows : {1, 16, 45}) {
    const std::vector<float> x = random_floats(rows * k);
    std::vector<float> y(static_cast<std::size_t>(rows * n));
    panel_matmul({x.data(), rows, k}, *packed, bias.data(), {y.data(), rows, n});
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t o = 0; o < n; ++o) {
        float sum = bias[static_cast<std::size_t>(o)];
        for (std::int64_t step = 0; step < k; step += 32) {
          float even = 0, odd = 0;
          for (std::int64_t i = step; i < step + 32; i += 2) {
            even = std::fma(element(&x[t * k], i), element(&weights[o * k], i), even);
            odd = std::fma(element(&x[t * k], i + 1), element(&weights[o * k], i + 1), odd);
          }
          sum += even + odd;
        }
        ASSERT_EQ(y[static_cast<std::size_t>(t * n + o)], sum) << "row " << t << " of " << rows << ", output " << o;
      }
    }
  }
}

TEST_F(TileProducts, OfQuantizedWeightsAreTheVectorKernelsBits) {
  for (const QuantizedFormat& format : {QuantizedFormat{8, 0}, {4, 32}, {4, 64}, {4, 128}}) {
    for (const std::int64_t k : {64, 200, 1000}) {
      const std::int64_t n = 104, rows = 215;
      QuantizedMatrix weight(format, n, k);
      std::uniform_int_distribution<int> code(0, format.max_code());
      for (std::int64_t i = 0; i < n * k; ++i) {
        weight.codes.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(code(random_));
      }
      for (std::int64_t i = 0; i < weight.scales.size(); ++i) {
        weight.scales.as<BFloat16>()[i] = BFloat16::from_float(std::abs(random_floats(1)[0]));
        weight.zeros.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(code(random_));
      }
      const QuantizedPanels packed(weight);
      const std::vector<float> x = random_floats(rows * k), bias = random_floats(n);
      std::vector<float> by_vectors(static_cast<std::size_t>(rows * n));
      use_isa(kVectors);
      quantized_matmul({x.data(), rows, k}, packed, bias.data(), {by_vectors.data(), rows, n});
      use_isa(kTiles);
      for (const std::int64_t some : {1, 15, 16, 17, 100, 215}) {
        std::vector<float> y(static_cast<std::size_t>(some * n));
        quantized_matmul({x.data(), some, k}, packed, bias.data(), {y.data(), some, n});
        EXPECT_EQ(std::memcmp(y.data(), by_vectors.data(), y.size() * sizeof(float)), 0)
            << format.bits << " bits in groups of " << format.group << ", K " << k << ", " << some << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace molt
