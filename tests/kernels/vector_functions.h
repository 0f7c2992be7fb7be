// The vector functions of every instruction set against double precision, in units of the last place: the table of what
// is asked of each, and the sweep over floats that the test takes in steps and bench/vector_functions_bench whole.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/isa/kernels.h"

namespace molt::testing_kernels {

struct VectorFunction {
  const char* name;
  void (*compute)(const Kernels& kernels, const float* x, float* y, std::int64_t n);
  double (*exact)(double x);
  // Within [low, high] the error is at most `ulp`, below at most `absolute` (0: not asked for). Both bounds were
  // measured over all floats: docs/benchmarks/vector-functions.md.
  float low, high;
  double ulp;
  double absolute;
  bool keeps_nan = true;
};

/// Through a row of one value too small to count: y = x / sqrt(x^2 + eps), with eps for the argument.
inline void inverse_square_roots(const Kernels& kernels, const float* x, float* y, std::int64_t n) {
  constexpr float kTiny = 0x1p-76F;
  for (std::int64_t i = 0; i < n; ++i) {
    kernels.rms_norm(&kTiny, nullptr, x[i], y + i, 1);
    y[i] *= 0x1p76F;
  }
}

inline const std::vector<VectorFunction>& vector_functions() {
  constexpr float kMax = std::numeric_limits<float>::max();
  static const std::vector<VectorFunction> functions{
      {"exp", [](const Kernels& kernels, const float* x, float* y, std::int64_t n) { kernels.exp(x, y, n); },
       [](double x) { return std::exp(x); }, -kMax, kMax, 1.2, 0},
      {"exp2_decay",
       [](const Kernels& kernels, const float* x, float* y, std::int64_t n) { kernels.exp2_decay(x, y, n); },
       [](double x) { return std::exp2(x); }, -126, 0, 2.5, 0x1p-126, false},
      {"silu",
       [](const Kernels& kernels, const float* x, float* y, std::int64_t n) {
         std::fill_n(y, n, 1.0F);
         kernels.silu_gate(y, x, y, n);
       },
       [](double x) { return x / (1 + std::exp(-x)); }, -88.7F, kMax, 2.5, 3e-37},
      {"softplus",
       [](const Kernels& kernels, const float* x, float* y, std::int64_t n) {
         constexpr float kInfinity = std::numeric_limits<float>::infinity();
         kernels.softplus(x, nullptr, -kInfinity, kInfinity, y, n);
       },
       [](double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); }, -kMax, kMax, 3, 0},
      // The error of 4 x is that of x: two binades would do.
      {"rsqrt", &inverse_square_roots, [](double x) { return 1 / std::sqrt(x); }, 0x1p-149F, 4, 1.5, 0},
  };
  return functions;
}

/// |got - want| in units of the last place of float32 at `want`. Beyond the largest float infinity stands for 2^128.
inline double ulps(float got, double want) {
  constexpr double kOverflow = 0x1p128;
  want = std::clamp(want, -kOverflow, kOverflow);
  const double given = std::isinf(got) ? std::copysign(kOverflow, got) : static_cast<double>(got);
  // 2^(23 - exponent), no less than of the least normal float; the exponent as it stands in the bits.
  const std::uint64_t exponent = std::max<std::uint64_t>(std::bit_cast<std::uint64_t>(want) << 1 >> 53, 1023 - 126);
  return std::fabs(given - want) * std::bit_cast<double>((2 * 1023 + 23 - exponent) << 52);
}

/// The worst of a sweep.
struct WorstError {
  double ulp = 0;          // within the function's range
  float at = 0;            // where
  double absolute = 0;     // elsewhere
  std::int64_t wrong = 0;  // results that are no number, or numbers where the argument is none
};

/// Compares `function` of every table of `isas` with double precision on those floats, of any sign, whose bits are
/// `first`, first + step, ... up to `last`. Floats of which nothing is asked are left out.
inline std::vector<WorstError> sweep(const VectorFunction& function, std::span<const Kernels* const> isas,
                                     std::uint32_t first, std::uint32_t last, std::uint32_t step) {
  constexpr std::size_t kChunk = 4096;
  std::vector<WorstError> worst(isas.size());
  std::array<float, kChunk> x, y;
  std::array<double, kChunk> want;
  for (std::uint64_t bits = first; bits <= last;) {
    std::size_t n = 0;
    for (; n < kChunk && bits <= last; bits += step) {
      const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
      const bool below = value < function.low && function.absolute > 0;
      const bool inside = function.low <= value && value <= function.high;
      if (below || inside || (std::isnan(value) && function.keeps_nan)) x[n++] = value;
    }
    for (std::size_t i = 0; i < n; ++i) want[i] = function.exact(x[i]);
    for (std::size_t isa = 0; isa < isas.size(); ++isa) {
      WorstError& error = worst[isa];
      function.compute(*isas[isa], x.data(), y.data(), static_cast<std::int64_t>(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (std::isnan(want[i]) || std::isnan(y[i])) {
          error.wrong += std::isnan(want[i]) != std::isnan(y[i]) ? 1 : 0;
        } else if (function.low <= x[i]) {
          const double ulp = ulps(y[i], want[i]);
          if (ulp > error.ulp) error.ulp = ulp, error.at = x[i];
        } else {
          error.absolute = std::max(error.absolute, std::fabs(static_cast<double>(y[i]) - want[i]));
        }
      }
    }
  }
  return worst;
}

}  // namespace molt::testing_kernels
