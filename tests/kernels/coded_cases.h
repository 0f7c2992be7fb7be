// The table's cases of weights in fewer bits than bfloat16 has: quantized ones, and 2:4 in bfloat16.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "tests/kernels/cases.h"

namespace molt::testing_kernels {

/// How the weights of a case are made.
struct CodedFormat {
  std::string name;
  QuantizedFormat quantized;
  bool pairs = false;
};

inline const std::vector<CodedFormat>& coded_formats() {
  static const std::vector<CodedFormat> formats{{"int8", {8, 0}},        {"int8 off centre", {8, 0}},
                                                {"int4 g32", {4, 32}},   {"int4 g64", {4, 64}},
                                                {"int4 g128", {4, 128}}, {"2:4", {}, true}};
  return formats;
}

/// Any codes, also such as no method would choose; zero points of 8 bits are 128 unless they are off centre.
inline QuantizedMatrix random_codes(const CodedFormat& format, std::int64_t n, std::int64_t k) {
  std::mt19937 random(41);
  const auto any = [&](int most) { return static_cast<std::uint8_t>(random() % static_cast<unsigned>(most + 1)); };
  QuantizedMatrix matrix(format.quantized, n, k);
  for (std::int64_t i = 0; i < n * k; ++i) matrix.codes.as<std::uint8_t>()[i] = any(format.quantized.max_code());
  const bool centred = format.name == "int8";
  for (std::int64_t i = 0; i < matrix.scales.size(); ++i) {
    matrix.scales.as<BFloat16>()[i] = BFloat16::from_float(std::uniform_real_distribution(0.001F, 0.02F)(random));
    matrix.zeros.as<std::uint8_t>()[i] = centred ? 128 : any(format.quantized.max_code());
  }
  return matrix;
}

/// Two weights in every four columns, or fewer, all ways to choose them alike.
inline Tensor random_pairs(std::int64_t n, std::int64_t k) {
  std::mt19937 random(42);
  std::normal_distribution<float> normal;
  Tensor weight = Tensor::zeros(DType::f32, {n, k});
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t four = 0; four < k; four += 4) {
      for (int i = 0; i < 2; ++i) {
        const std::int64_t column = four + static_cast<std::int64_t>(random() % 4);
        if (column < k) weight.as<float>()[row * k + column] = normal(random);
      }
    }
  }
  return weight;
}

inline std::unique_ptr<PackedMatrix> pack_coded(const Backend& backend, const CodedFormat& format, std::int64_t n,
                                                std::int64_t k) {
  return format.pairs ? backend.pack(random_pairs(n, k), DType::bf16) : backend.pack(random_codes(format, n, k));
}

/// Whole numbers, in every 32 columns up to 127: what rounding to 8 bits in blocks, and to bfloat16, leaves as it is.
inline Rows whole_numbers(std::int64_t rows, std::int64_t cols) {
  std::mt19937 random(43);
  Rows x(rows, cols, 3);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t k = 0; k < cols; ++k) {
      x.matrix().row(t)[k] = k % 32 == 5 || cols - k <= 1 ? 127 : static_cast<float>(random() % 255) - 127;
    }
  }
  return x;
}

inline void add_coded_products(std::vector<Case>& cases, const CodedFormat& format) {
  struct Shape3 {
    std::int64_t rows, out, in;
  };
  // The last inputs are more than a warp of a device takes at a time.
  for (const Shape3 s : {Shape3{1, 70, 33},
                         {2, 24, 64},
                         {8, 129, 200},
                         {9, 16, 96},
                         {16, 40, 768},
                         {17, 70, 136},
                         {40, 33, 65},
                         {3, 20, 5300}}) {
    for (const bool biased : {false, true}) {
      const auto run = [=](const Backend& backend) {
        Random random(44);
        const Rows x = whole_numbers(s.rows, s.in);
        const Floats bias = random.normals(s.out);
        const auto packed = pack_coded(backend, format, s.out, s.in);
        return product_outputs(backend, x, *packed, biased ? bias.data() : nullptr);
      };
      // For many rows a device may round the weights to bfloat16.
      const bool exact = s.rows <= 16 && format.name != "int8 off centre";
      cases.push_back({"matmul " + format.name + " " + std::to_string(s.rows) + "x" + std::to_string(s.out) + "x" +
                           std::to_string(s.in),
                       run, exact || format.pairs ? 4e-6 : 1e-2});
    }
  }
}

inline void add_coded_cases(std::vector<Case>& cases) {
  for (const CodedFormat& format : coded_formats()) {
    add_coded_products(cases, format);
    if (format.pairs) continue;
    for (const std::int64_t cols : {33, 64, 200}) {
      const auto run = [=](const Backend& backend) {
        const std::vector<TokenId> ids{29, 0, 7, 7, 16, 1};
        Rows y(static_cast<std::int64_t>(ids.size()), cols, 3);
        backend.embed(*pack_coded(backend, format, 30, cols), ids, y.matrix());
        return outputs_of({&y});
      };
      cases.push_back({"embed " + format.name + " " + std::to_string(cols), run, 1e-7});
    }
  }
}

}  // namespace molt::testing_kernels
