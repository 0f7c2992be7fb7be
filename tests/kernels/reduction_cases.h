// Cases of the ops of token reduction, but for best_match (best_match_test.cc): its rows may differ by rounding.
#pragma once

#include <limits>
#include <numeric>

#include "tests/kernels/cases.h"

namespace molt::testing_kernels {

inline void add_importance_cases(std::vector<Case>& cases) {
  for (const auto metric : {Importance::clip, Importance::l1, Importance::l2, Importance::signed_mean}) {
    for (const std::int64_t cols : {1, 3, 15, 16, 17, 64, 129, 1000}) {
      for (const std::int64_t rows : {0, 1, 7, 300}) {
        for (const bool special : {false, true}) {
          const auto run = [=](const Backend& backend) {
            Random random(41);
            Rows y(rows, cols, 3, random);
            if (special && rows > 2) {
              y.matrix()(0, cols - 1) = std::nanf("");
              y.matrix()(2, cols / 2) = -0.0F;
            }
            // One number a row, between foreign ones.
            Floats scores(static_cast<std::size_t>(rows) + 2, Rows::kForeign);
            backend.importance(y.matrix(), metric, scores.data() + 1);
            const bool intact = scores.front() == Rows::kForeign && scores.back() == Rows::kForeign;
            return Outputs{{scores}, intact};
          };
          cases.push_back({"importance " + std::to_string(static_cast<int>(metric)) + " " + std::to_string(rows) + "x" +
                               std::to_string(cols),
                           run});
        }
      }
    }
  }
}

/// Calls contribute(backend, x, dt, B, m, offsets, c) with random inputs of a batch.
template <class Contribute>
Outputs run_contribution(const Backend& backend, const std::vector<std::int64_t>& lengths, std::int64_t x_cols,
                         std::int64_t dt_cols, std::int64_t B_cols, const ScanOptions& options, Contribute contribute) {
  const std::vector<std::int64_t> offsets = offsets_of(lengths);
  const std::int64_t rows = offsets.back();
  Random random(options.seed);
  const Rows x(rows, x_cols, 7, random), B(rows, B_cols, 9, random);
  Rows dt(rows, dt_cols, 1);
  fill_steps(random, options, dt);
  const Floats m = random_multiplicities(random, rows);
  Floats c(static_cast<std::size_t>(rows) + 2, Rows::kForeign);
  contribute(backend, x.matrix(), std::as_const(dt).matrix(), B.matrix(), options.m ? m.data() : nullptr,
             Offsets(offsets), c.data() + 1);
  return {{c}, c.front() == Rows::kForeign && c.back() == Rows::kForeign};
}

inline void add_contribution_cases(std::vector<Case>& cases) {
  const std::vector<std::vector<std::int64_t>> batches{{}, {0}, {1}, {2}, {65}, {500}, {3, 0, 70, 1}};
  std::vector<ScanOptions> all_options;
  for (const Steps steps : {Steps::usual, Steps::tiny, Steps::huge, Steps::mixed}) {
    all_options.push_back({steps, true, false, 51});
    all_options.push_back({steps, true, true, 52, Wanted::all, true});
  }
  for (const auto& lengths : batches) {
    for (const ScanOptions& options : all_options) {
      for (const auto& [N, Di] :
           std::vector<std::pair<std::int64_t, std::int64_t>>{{16, 64}, {16, 130}, {1, 5}, {7, 33}}) {
        const auto contribute = [=](const Backend& backend, auto x, auto dt, auto B, auto m, auto offsets, float* c) {
          Random random(53);
          Rows A(N, Di, 2);
          A.fill([&] { return -random.uniform(0.1F, 16); });
          backend.selective_scan_contribution(x, dt, A.matrix(), B, m, offsets, c);
        };
        cases.push_back(
            {"selective_scan_contribution N=" + std::to_string(N) + " Di=" + std::to_string(Di),
             [=](const Backend& backend) { return run_contribution(backend, lengths, Di, Di, N, options, contribute); },
             1e-5});
      }
      for (const SsdExtents e : {SsdExtents{1, 64, 128, 1}, {24, 4, 3, 3}, {17, 19, 7, 1}, {40, 1, 1, 2}}) {
        const auto contribute = [=](const Backend& backend, auto x, auto dt, auto B, auto m, auto offsets, float* c) {
          Random random(54);
          Floats A;
          for (std::int64_t h = 0; h < e.heads; ++h) A.push_back(-random.uniform(0.1F, 16));
          backend.ssd_contribution(x, dt, A, B, e.groups, m, offsets, c);
        };
        cases.push_back({"ssd_contribution H=" + std::to_string(e.heads) + " P=" + std::to_string(e.channels),
                         [=](const Backend& backend) {
                           return run_contribution(backend, lengths, e.heads * e.channels, e.heads, e.groups * e.states,
                                                   options, contribute);
                         },
                         1e-5});
      }
    }
  }
}

/// `count` of the numbers [0, n), ascending.
inline std::vector<std::int64_t> random_rows(Random& random, std::int64_t n, std::int64_t count) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < n && static_cast<std::int64_t>(rows.size()) < count; ++i) {
    const auto left = static_cast<float>(n - i), wanted = static_cast<float>(count) - static_cast<float>(rows.size());
    if (random.uniform(0, left) <= wanted) rows.push_back(i);
  }
  return rows;
}

inline void add_row_cases(std::vector<Case>& cases) {
  for (const std::int64_t rows : {1, 2, 9, 400}) {
    for (const std::int64_t cols : {1, 17, 256, 257, 1500}) {
      const std::string label = std::to_string(rows) + "x" + std::to_string(cols);
      cases.push_back({"gather_rows " + label,
                       [=](const Backend& backend) {
                         Random random(61);
                         const Rows x(rows, cols, 3, random);
                         std::vector<std::int64_t> from;  // any order, rows named more than once
                         for (int i = 0; i < 20; ++i) {
                           from.push_back(
                               static_cast<std::int64_t>(random.uniform(0, static_cast<float>(rows) - 0.01F)));
                         }
                         Rows y(static_cast<std::int64_t>(from.size()), cols, 2);
                         backend.gather_rows(x.matrix(), from, y.matrix());
                         return outputs_of({&x, &y});
                       },
                       0});
      for (const std::int64_t kept : {std::int64_t{0}, (rows + 1) / 2, rows}) {
        cases.push_back({"gather_rows in place " + label,
                         [=](const Backend& backend) {
                           Random random(62);
                           Rows x(rows, cols, 3, random);
                           const auto from = random_rows(random, rows, kept);
                           const auto to = x.matrix().row_range(0, static_cast<std::int64_t>(from.size()));
                           backend.gather_rows(x.matrix(), from, to);
                           return outputs_of({&x});
                         },
                         0});
        cases.push_back({"scatter_rows " + label,
                         [=](const Backend& backend) {
                           Random random(63);
                           auto to = random_rows(random, rows, kept);
                           std::reverse(to.begin(), to.end());
                           const Rows x(static_cast<std::int64_t>(to.size()), cols, 3, random);
                           Rows y(rows, cols, 2, random);
                           backend.scatter_rows(x.matrix(), to, y.matrix());
                           return outputs_of({&y});
                         },
                         0});
      }
    }
  }
}

/// Weights of merges: none, any, zeros only, or such that they cancel.
enum class MergeWeights { ones, random, zero, cancelling };

inline void add_column_cases(std::vector<Case>& cases) {
  for (const std::int64_t rows : {0, 1, 9, 100}) {
    for (const auto& runs : std::vector<std::vector<ColumnRun>>{
             {}, {{0, 0, 1}}, {{5, 0, 7}}, {{0, 16, 16}, {40, 0, 3}, {16, 3, 13}}, {{30, 50, 0}, {64, 36, 64}}}) {
      const auto run = [=](const Backend& backend) {
        Random random(81);
        const Rows x(rows, 128, 3, random);
        Rows y(rows, 100, 2, random);
        backend.copy_columns(x.matrix(), runs, y.matrix());
        return outputs_of({&x, &y});
      };
      cases.push_back({"copy_columns " + std::to_string(rows) + " rows", run, 0});
    }
    const auto add = [=](const Backend& backend) {
      Random random(82);
      Rows x(rows, 33, 3, random), y(rows, 33, 2);
      const Rows h(rows, 33, 0, random);
      backend.add_rows(x.matrix(), h.matrix(), y.matrix());
      backend.add_rows(x.matrix(), h.matrix(), x.matrix());
      return outputs_of({&x, &y});
    };
    cases.push_back({"add_rows " + std::to_string(rows) + " rows", add, 0});
  }
}

inline void add_merge_cases(std::vector<Case>& cases) {
  for (const std::int64_t rows : {2, 3, 50, 301}) {
    for (const std::int64_t cols : {1, 19, 256, 700}) {
      for (const auto kind : {MergeWeights::ones, MergeWeights::random, MergeWeights::zero, MergeWeights::cancelling}) {
        for (const std::int64_t targets : {1, 7}) {
          const auto run = [=](const Backend& backend) {
            Random random(71);
            Rows x(rows, cols, 3, random);
            Floats weights;
            for (std::int64_t t = 0; t < rows; ++t) {
              const float sign = t % 2 == 0 ? 1.0F : -1.0F;
              weights.push_back(kind == MergeWeights::zero         ? 0.0F
                                : kind == MergeWeights::cancelling ? sign
                                                                   : random.uniform(0.1F, 2));
            }
            // Sources and targets in no order; the targets are the first rows.
            std::vector<RowMerge> merges;
            for (std::int64_t i = 0; i < rows / 2; ++i) {
              const std::int64_t source = rows - 1 - (i * 7) % (rows / 2);
              merges.push_back({source, (i * 5) % std::min(targets, rows - rows / 2)});
            }
            backend.merge_rows(x.matrix(), merges, kind == MergeWeights::ones ? nullptr : weights.data());
            return outputs_of({&x});
          };
          cases.push_back({"merge_rows " + std::to_string(rows) + "x" + std::to_string(cols) + " weights " +
                               std::to_string(static_cast<int>(kind)),
                           run, kind == MergeWeights::cancelling ? 2e-5 : 2e-6});
        }
      }
    }
  }
}

inline void add_reduction_cases(std::vector<Case>& cases) {
  add_importance_cases(cases);
  add_contribution_cases(cases);
  add_row_cases(cases);
  add_column_cases(cases);
  add_merge_cases(cases);
}

}  // namespace molt::testing_kernels
