// One table of cases for all ops, run by every backend on every instruction set of this machine and compared with the
// reference backend. A new backend is a row of implementations(); a new case is a row of cases().
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "base/parallel.h"
#include "kernels/cpu/select.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/coded_cases.h"
#include "tests/kernels/distribution_cases.h"
#include "tests/kernels/isas.h"
#include "tests/kernels/problems.h"
#include "tests/kernels/reduction_cases.h"
#include "tests/support/backends.h"

namespace molt::testing_kernels {
namespace {

struct Implementation {
  std::string backend;
  std::string isa;  // empty: the backend has no such choice
};
void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.backend << (implementation.isa.empty() ? "" : " on ") << implementation.isa;
}

std::vector<Implementation> implementations() {
  std::vector<Implementation> rows;
  for (const std::string& isa : testing_kernels::isas_of_other_ops()) rows.push_back({"cpu", isa});
  rows.push_back({"timed:cpu", ""});
  rows.push_back({"staged:cpu", ""});
  rows.push_back({"staged:cuda", ""});
  rows.push_back({"aligned:cpu", ""});
  rows.push_back({"aligned:cuda", ""});
  return rows;
}

struct Extent {
  std::int64_t rows, cols;
};
const std::vector<Extent> kExtents{{0, 8},  {1, 1},  {2, 3},  {3, 15},  {1, 16},
                                   {5, 17}, {1, 63}, {4, 64}, {2, 129}, {70, 768}};

std::string label(Extent e) {
  return std::to_string(e.rows) + "x" + std::to_string(e.cols);
}

void add_norm_cases(std::vector<Case>& cases) {
  for (const Extent e : kExtents) {
    for (const bool weighted : {true, false}) {
      for (const float scale : {1e-4F, 1.0F, 1e4F}) {
        cases.push_back({"rms_norm " + label(e), [=](const Backend& backend) {
                           Random random(7);
                           const Rows x(e.rows, e.cols, 4, random, scale);
                           const Floats weight = random.normals(e.cols);
                           Rows y(e.rows, e.cols, 2);
                           backend.rms_norm(x.matrix(), weighted ? weight.data() : nullptr, 1e-5F, y.matrix());
                           return outputs_of({&y});
                         }});
      }
      cases.push_back({"rms_norm in place " + label(e), [=](const Backend& backend) {
                         Random random(8);
                         Rows x(e.rows, e.cols, 4, random);
                         const Floats weight = random.normals(e.cols);
                         backend.rms_norm(x.matrix(), weighted ? weight.data() : nullptr, 1e-5F, x.matrix());
                         return outputs_of({&x});
                       }});
      cases.push_back({"add_rms_norm " + label(e), [=](const Backend& backend) {
                         Random random(9);
                         Rows residual(e.rows, e.cols, 4, random);
                         const Rows h(e.rows, e.cols, 0, random);
                         const Floats weight = random.normals(e.cols);
                         Rows y(e.rows, e.cols, 2);
                         backend.add_rms_norm(residual.matrix(), h.matrix(), weighted ? weight.data() : nullptr, 1e-5F,
                                              y.matrix());
                         return outputs_of({&residual, &y});
                       }});
    }
  }
  for (const Extent e : kExtents) {
    for (const float middle : {0.0F, 100.0F}) {
      for (const bool in_place : {false, true}) {
        cases.push_back({"layer_norm " + label(e), [=](const Backend& backend) {
                           Random random(19);
                           Rows x(e.rows, e.cols, 4);
                           x.fill([&] { return middle + random.normal(); });
                           const Floats weight = random.normals(e.cols), bias = random.normals(e.cols);
                           Rows y(e.rows, e.cols, 2);
                           backend.layer_norm(x.matrix(), weight.data(), bias.data(), 1e-5F,
                                              in_place ? x.matrix() : y.matrix());
                           return outputs_of({&x, &y});
                         }});
      }
    }
  }
  for (const std::int64_t group : {1, 5, 16, 33, 96}) {
    for (const std::int64_t groups : {1, 3}) {
      for (const int variant : {0, 1, 2, 3, 4, 5, 6, 7}) {
        const bool before = (variant & 1) != 0, weighted = (variant & 2) != 0, in_place = (variant & 4) != 0;
        const Extent e{6, group * groups};
        cases.push_back({"gated_rms_norm " + label(e) + " variant " + std::to_string(variant), [=](const Backend& b) {
                           Random random(10);
                           Rows x(e.rows, e.cols, 4, random);
                           const Rows z(e.rows, e.cols, 5, random, 3);
                           const Floats weight = random.normals(e.cols);
                           Rows y(e.rows, e.cols, 2);
                           b.gated_rms_norm(x.matrix(), z.matrix(), weighted ? weight.data() : nullptr, 1e-5F, group,
                                            before, in_place ? x.matrix() : y.matrix());
                           return outputs_of({&x, &y});
                         }});
      }
    }
  }
}

void add_activation_cases(std::vector<Case>& cases) {
  for (const Extent e : kExtents) {
    for (const float scale : {0.01F, 1.0F, 60.0F}) {
      for (const bool in_place : {false, true}) {
        cases.push_back({"silu_gate " + label(e), [=](const Backend& backend) {
                           Random random(11);
                           Rows x(e.rows, e.cols, 4, random);
                           const Rows z(e.rows, e.cols, 3, random, scale);
                           Rows y(e.rows, e.cols, 2);
                           backend.silu_gate(x.matrix(), z.matrix(), in_place ? x.matrix() : y.matrix());
                           return outputs_of({&x, &y});
                         }});
        cases.push_back({"relu " + label(e), [=](const Backend& backend) {
                           Random random(20);
                           Rows x(e.rows, e.cols, 4, random, scale);
                           Rows y(e.rows, e.cols, 2);
                           backend.relu(x.matrix(), in_place ? x.matrix() : y.matrix());
                           return outputs_of({&x, &y});
                         }});
        cases.push_back({"softplus " + label(e), [=](const Backend& backend) {
                           Random random(12);
                           Rows x(e.rows, e.cols, 4, random, scale);
                           const Floats bias = random.normals(e.cols);
                           Rows y(e.rows, e.cols, 2);
                           backend.softplus(x.matrix(), in_place ? nullptr : bias.data(), 0.001F, 50.0F,
                                            in_place ? x.matrix() : y.matrix());
                           return outputs_of({&x, &y});
                         }});
      }
    }
  }
}

/// A table of random values whose bytes start at an odd address, as a mapped file's may.
Tensor unaligned_table(DType dtype, std::int64_t rows, std::int64_t cols, bool any_bits) {
  Random random(13);
  const auto bytes = static_cast<std::size_t>(rows * cols * size_of(dtype));
  auto memory = std::make_shared<std::vector<std::byte>>(bytes + 1);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const float value = random.normal();
    const auto any = static_cast<std::uint16_t>(random.uniform(0, 65535.9F));
    const std::uint16_t half = any_bits ? any : BFloat16::from_float(value).bits;
    if (dtype == DType::f32) {
      std::memcpy(memory->data() + 1 + 4 * i, &value, 4);
    } else {
      std::memcpy(memory->data() + 1 + 2 * i, &half, 2);
    }
  }
  return {dtype, {rows, cols}, memory->data() + 1, memory};
}

void add_embed_cases(std::vector<Case>& cases) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t cols : {1, 15, 16, 33, 768}) {
      const auto run = [=](const Backend& backend) {
        const Tensor table = unaligned_table(dtype, 50, cols, dtype == DType::f16);
        const std::vector<TokenId> ids{49, 0, 7, 7, 31, 1};
        Rows y(static_cast<std::int64_t>(ids.size()), cols, 3);
        backend.embed(table, ids, y.matrix());
        // As finite numbers, so that every value is compared: infinities and NaNs of random halves become marks.
        Outputs outputs = outputs_of({&y});
        for (float& v : outputs.arrays[0]) {
          if (!std::isfinite(v)) v = std::isnan(v) ? 1e6F : std::copysign(1e5F, v);
        }
        return outputs;
      };
      cases.push_back({"embed " + std::string(name_of(dtype)) + " " + std::to_string(cols), run, 0});
    }
  }
}

void add_matmul_cases(std::vector<Case>& cases) {
  struct Shape3 {
    std::int64_t rows, out, in;
  };
  for (const Shape3 s : {Shape3{1, 1, 1}, {1, 70, 33}, {2, 64, 64}, {3, 129, 17}, {7, 5, 100}, {33, 130, 65}}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const bool biased : {false, true}) {
        const auto run = [=](const Backend& backend) {
          Random random(14);
          Tensor weight = Tensor::zeros(DType::f32, {s.out, s.in});
          for (std::int64_t i = 0; i < weight.size(); ++i) weight.as<float>()[i] = random.normal();
          const Rows x(s.rows, s.in, 3, random);
          const Floats bias = random.normals(s.out);
          const auto packed = backend.pack(weight, dtype);
          return product_outputs(backend, x, *packed, biased ? bias.data() : nullptr);
        };
        cases.push_back({"matmul " + std::string(name_of(dtype)) + " " + std::to_string(s.rows) + "x" +
                             std::to_string(s.out) + "x" + std::to_string(s.in),
                         run});
      }
    }
  }
}

const std::vector<std::vector<std::int64_t>> kBatches{
    {}, {0}, {1}, {2}, {3}, {6}, {7}, {64}, {65}, {200}, {0, 1, 0, 5, 0}, {1, 1, 1, 1, 1}, {63, 2, 0, 130, 64, 1, 12},
};

std::string label(const std::vector<std::int64_t>& lengths) {
  std::string text = "[";
  for (const std::int64_t length : lengths) text += std::to_string(length) + " ";
  return text + "]";
}

/// A case of a batch; `make` gives the problem for a number of rows.
template <class Make>
void add_batch_case(std::vector<Case>& cases, const std::string& name, double tolerance,
                    const std::vector<std::int64_t>& lengths, Make make) {
  const auto run = [=](const Backend& backend) {
    const auto problem = make(offsets_of(lengths).back());
    const auto result = problem.run_batch(backend, lengths);
    Outputs outputs{{result.y}, result.intact};
    outputs.arrays.insert(outputs.arrays.end(), result.states.begin(), result.states.end());
    return outputs;
  };
  cases.push_back({name + " " + label(lengths), run, tolerance});
}

/// A case of every batch.
template <class Make>
void add_sequence_cases(std::vector<Case>& cases, const std::string& name, double tolerance, Make make) {
  for (const auto& lengths : kBatches) add_batch_case(cases, name, tolerance, lengths, make);
}

const std::vector<ScanOptions> kScanOptions{
    {Steps::usual, true, false, 21},
    {Steps::usual, false, true, 22},
    {Steps::tiny, true, true, 23},
    {Steps::huge, true, true, 24},
    {Steps::mixed, true, true, 25},
    {Steps::mixed, false, false, 26},
    {Steps::usual, true, true, 27, Wanted::some},
    {Steps::usual, true, true, 28, Wanted::none, true},
    {Steps::mixed, true, false, 29, Wanted::stretches, true},
    {Steps::usual, true, false, 30, Wanted::all, true},
};

void add_sequence_cases(std::vector<Case>& cases) {
  for (const std::int64_t channels : {1, 16, 19, 40, 130}) {
    for (const std::int64_t taps : {1, 2, 3, 4, 5, 9}) {
      for (const bool bias : {true, false}) {
        add_sequence_cases(cases, "causal_conv C=" + std::to_string(channels) + " K=" + std::to_string(taps), 2e-6,
                           [=](std::int64_t rows) { return ConvProblem(rows, channels, taps, bias, 20); });
      }
    }
  }
  for (const ScanOptions& options : kScanOptions) {
    const std::string steps =
        " steps " + std::to_string(static_cast<int>(options.steps)) + " seed " + std::to_string(options.seed);
    for (const Extent e : {Extent{16, 1}, {16, 16}, {16, 37}, {16, 100}, {1, 5}, {7, 33}, {64, 20}}) {
      add_sequence_cases(cases, "selective_scan N=" + std::to_string(e.rows) + " Di=" + std::to_string(e.cols) + steps,
                         1e-5, [=](std::int64_t rows) { return ScanProblem(rows, e.cols, e.rows, options); });
    }
    // Long enough for a device to cut it in time.
    for (const auto& lengths : std::vector<std::vector<std::int64_t>>{{400}, {30, 0, 351, 1, 65}}) {
      add_batch_case(cases, "selective_scan N=16 Di=132" + steps, 1e-5, lengths,
                     [=](std::int64_t rows) { return ScanProblem(rows, 132, 16, options); });
    }
    for (const SsdExtents e : {SsdExtents{1, 64, 128, 1},
                               {2, 64, 16, 1},
                               {3, 1, 1, 3},
                               {4, 19, 7, 2},
                               {2, 80, 33, 2},
                               {6, 16, 20, 3},
                               {1, 130, 5, 1}}) {
      add_sequence_cases(cases,
                         "ssd H=" + std::to_string(e.heads) + " P=" + std::to_string(e.channels) +
                             " N=" + std::to_string(e.states) + " G=" + std::to_string(e.groups) + steps,
                         1e-5, [=](std::int64_t rows) { return SsdProblem(rows, e, options); });
    }
  }
}

std::vector<Case> all_cases(const std::string& op) {
  std::vector<Case> cases;
  if (op == "norms") add_norm_cases(cases);
  if (op == "activations") add_activation_cases(cases);
  if (op == "embed") add_embed_cases(cases);
  if (op == "matmul") add_matmul_cases(cases);
  if (op == "coded") add_coded_cases(cases);
  if (op == "sequences") add_sequence_cases(cases);
  if (op == "distributions") add_distribution_cases(cases);
  if (op == "reduction") add_reduction_cases(cases);
  return cases;
}

/// What the reference gives for every case, computed once a process.
const std::vector<std::pair<Case, Outputs>>& expected(const std::string& op) {
  static std::map<std::string, std::vector<std::pair<Case, Outputs>>> all;
  auto& known = all[op];
  if (known.empty()) {
    const auto reference = make_backend("reference");
    for (const Case& c : all_cases(op)) known.emplace_back(c, c.run(*reference));
  }
  return known;
}

class Ops : public testing::TestWithParam<std::tuple<Implementation, std::string>> {
 protected:
  void SetUp() override {
    const Implementation& implementation = std::get<0>(GetParam());
    MOLT_NEEDS_BACKEND(implementation.backend);
    if (!implementation.isa.empty()) use_isa(implementation.isa);
  }
  void TearDown() override { use_isa(available_isas().front()); }
};

TEST_P(Ops, AgreeWithTheReference) {
  const auto& [implementation, op] = GetParam();
  const auto backend = make_backend(implementation.backend);
  const auto& cases = expected(op);
  ASSERT_FALSE(cases.empty());
  for (const auto& [c, want] : cases) {
    const Outputs got = c.run(*backend);
    ASSERT_TRUE(want.intact && got.intact) << c.name << ": wrote outside of its output";
    ASSERT_EQ(got.arrays.size(), want.arrays.size());
    for (std::size_t i = 0; i < want.arrays.size(); ++i) {
      expect_close(got.arrays[i], want.arrays[i], c.tolerance, c.name + ", output " + std::to_string(i));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Ops, GiveTheSameBitsForAnyNumberOfThreads) {
  const auto& [implementation, op] = GetParam();
  const auto backend = make_backend(implementation.backend);
  const int before = num_threads();
  const auto cases = all_cases(op);
  std::vector<Outputs> one;
  set_num_threads(1);
  for (const Case& c : cases) one.push_back(c.run(*backend));
  for (const int threads : {2, 5}) {
    set_num_threads(threads);
    for (std::size_t i = 0; i < cases.size() && !HasFatalFailure(); ++i) {
      const Outputs many = cases[i].run(*backend);
      for (std::size_t k = 0; k < many.arrays.size(); ++k) {
        expect_same_bits(many.arrays[k], one[i].arrays[k], cases[i].name + " with " + std::to_string(threads));
      }
    }
  }
  set_num_threads(before);
}

INSTANTIATE_TEST_SUITE_P(All, Ops,
                         testing::Combine(testing::ValuesIn(implementations()),
                                          testing::Values("norms", "activations", "embed", "matmul", "coded",
                                                          "sequences", "distributions", "reduction")),
                         [](const auto& test) {
                           const Implementation& implementation = std::get<0>(test.param);
                           std::string backend = implementation.backend;
                           std::replace(backend.begin(), backend.end(), ':', '_');
                           return backend + "_" + implementation.isa + "_" + std::get<1>(test.param);
                         });

}  // namespace
}  // namespace molt::testing_kernels
