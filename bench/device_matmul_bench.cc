// Matrix products on a device at the shapes of Mamba-2-2.7B's layers, in every format of weights that it keeps.
//
//   device_matmul_bench [BACKEND]        the backend: cuda
//
// Prints a Markdown table of microseconds a product and GB/s of weights. Products go over as many copies of the weights
// as defeat the caches, as the layers of a model do, and run as one recorded step, so that what it takes to ask for
// them does not count. The median of 9.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/fail.h"
#include "kernels/backend.h"

namespace molt {
namespace {

constexpr std::int64_t kBeyondCaches = std::int64_t{256} << 20;  // bytes
constexpr int kRepeats = 9;

struct Format {
  std::string name;
  std::optional<QuantizedFormat> quantized = std::nullopt;
  bool pairs = false;  // two weights of every four columns
};

std::vector<std::unique_ptr<PackedMatrix>> copies_of_weights(const Backend& backend, const Format& format,
                                                             std::int64_t n, std::int64_t k) {
  const Tensor weight = Tensor::zeros(DType::f32, {n, k});
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    const std::int64_t turn = i / k * 7 + i % k / 4;  // which two of four go differs from row to row
    weight.as<float>()[i] = format.pairs && (i % 4 + turn) % 4 >= 2 ? 0 : uniform(random);
  }
  const auto quantized = format.quantized ? std::optional(round_to_nearest(weight, *format.quantized)) : std::nullopt;
  std::vector<std::unique_ptr<PackedMatrix>> copies;
  for (std::int64_t bytes = 0; bytes < kBeyondCaches; bytes += copies.back()->bytes()) {
    copies.push_back(quantized ? backend.pack(*quantized) : backend.pack(weight, DType::bf16));
  }
  return copies;
}

/// Seconds a product of `rows` rows.
double time_products(const Backend& backend, const std::vector<std::unique_ptr<PackedMatrix>>& weights,
                     std::int64_t rows) {
  const std::int64_t k = weights.front()->in_features(), n = weights.front()->out_features();
  const Tensor table = backend.memory().zeros(DType::f32, {1, k});
  const Tensor x = backend.memory().zeros(DType::f32, {rows, k}), y = backend.memory().zeros(DType::f32, {rows, n});
  const std::vector<TokenId> ids(static_cast<std::size_t>(rows), 0);
  const auto work = [&] {
    backend.embed(table, ids, x.matrix());
    for (const auto& w : weights) backend.matmul(x.matrix(), *w, nullptr, y.matrix());
  };
  work();
  backend.finish();
  const auto recording = backend.record(work);
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    recording->replay(ids);
    backend.finish();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRepeats / 2] / static_cast<double>(weights.size());
}

void run(const std::string& name) {
  const auto loaded = make_backend(name);
  const auto narrow = loaded->suited_to(DType::bf16);
  const Backend& backend = narrow != nullptr ? *narrow : *loaded;
  if (!backend.records()) fail("{} records no steps: it is measured by matmul_bench", name);
  const std::vector<std::int64_t> rows{1, 4, 8, 16, 64, 2048};
  fmt::print("| weights | K | N | MB |");
  for (const std::int64_t t : rows) fmt::print(" {} row{} |", t, t == 1 ? "" : "s");
  fmt::print("\n|---|---|---|---|");
  for (std::size_t i = 0; i < rows.size(); ++i) fmt::print("---|");
  fmt::print("\n");
  for (const auto& [k, n] : std::vector<std::pair<std::int64_t, std::int64_t>>{{2560, 10576}, {5120, 2560}}) {
    for (const Format& format : {Format{"bf16"}, Format{"2:4", {}, true}, Format{"int8", {{8, 0}}},
                                 Format{"int4 g128", {{4, 128}}}, Format{"int4 g64", {{4, 64}}}}) {
      const auto weights = copies_of_weights(backend, format, n, k);
      const auto bytes = static_cast<double>(weights.front()->bytes());
      fmt::print("| {} | {} | {} | {:.1f} |", format.name, k, n, bytes / 1e6);
      for (const std::int64_t t : rows) {
        const double seconds = time_products(backend, weights, t);
        fmt::print(" {:.1f} us, {:.0f} GB/s |", 1e6 * seconds, bytes / seconds / 1e9);
      }
      fmt::print("\n");
    }
  }
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  try {
    molt::run(argc > 1 ? argv[1] : "cuda");
  } catch (const molt::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
