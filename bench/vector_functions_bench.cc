// Errors of the vector functions over all floats of their range, for every instruction set of this machine: some
// minutes of all cores. A table in Markdown on standard output. --step=N takes every Nth float only.
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <string>

#include "base/parallel.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/vector_functions.h"

namespace molt::testing_kernels {
namespace {

void merge(const std::vector<WorstError>& part, std::vector<WorstError>& worst) {
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i].ulp > worst[i].ulp) worst[i].ulp = part[i].ulp, worst[i].at = part[i].at;
    worst[i].absolute = std::max(worst[i].absolute, part[i].absolute);
    worst[i].wrong += part[i].wrong;
  }
}

struct Options {
  std::uint32_t step = 1;
  float least = 0;
};

/// Over all 2^32 bit patterns, in parts that threads share.
std::vector<WorstError> sweep_all(const VectorFunction& function, std::span<const Kernels* const> isas,
                                  const Options& options) {
  constexpr std::int64_t kParts = 4096;
  constexpr std::uint64_t kPart = (std::uint64_t{1} << 32) / kParts;
  std::vector<WorstError> worst(isas.size());
  std::mutex mutex;
  parallel_for(kParts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto part = static_cast<std::uint64_t>(begin); part < static_cast<std::uint64_t>(end); ++part) {
      const auto first = static_cast<std::uint32_t>(part * kPart);
      const auto last = static_cast<std::uint32_t>(first + (kPart - 1));
      if (std::fabs(std::bit_cast<float>(last)) < options.least) continue;
      const auto found = sweep(function, isas, first, last, options.step);
      const std::lock_guard lock(mutex);
      merge(found, worst);
    }
  });
  return worst;
}

void run(const Options& options) {
  const std::vector<std::string> names = available_isas();
  std::vector<const Kernels*> isas;
  for (const std::string& name : names) isas.push_back(kernels_for(name));
  fmt::print("| function | range | instruction set | worst error, ulp | at | below, absolute | NaN amiss |\n");
  fmt::print("|---|---|---|---|---|---|---|\n");
  for (const VectorFunction& function : vector_functions()) {
    const std::vector<WorstError> worst = sweep_all(function, isas, options);
    for (std::size_t i = 0; i < worst.size(); ++i) {
      fmt::print("| {} | {:.6g} to {:.6g} | {} | {:.4f} | {:.9g} | {} | {} |\n", function.name, function.low,
                 function.high, names[i], worst[i].ulp, worst[i].at,
                 function.absolute > 0 ? fmt::format("{:.3g}", worst[i].absolute) : "", worst[i].wrong);
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace molt::testing_kernels

int main(int argc, char** argv) {
  molt::testing_kernels::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const double value = std::atof(argument.substr(std::min(argument.size(), argument.find('=') + 1)).c_str());
    if (argument.starts_with("--step=") && value >= 1 && value < 1e9) {
      options.step = static_cast<std::uint32_t>(value);
    } else if (argument.starts_with("--least=") && value >= 0) {
      options.least = static_cast<float>(value);
    } else {
      fmt::print(stderr, "usage: {} [--step=N] [--least=X]\n", argv[0]);
      return 2;
    }
  }
  molt::testing_kernels::run(options);
  return 0;
}
