// Moving rows and merging them. What is one row's alone is split by rows; where rows meet (in place, or merged) the
// work is split by columns, and each thread goes through the rows in their order.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/grain.h"
#include "kernels/shapes.h"

namespace molt {
namespace {

void copy(const float* from, float* to, std::int64_t n) {
  if (from != to) std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
}

/// Calls body(begin, end) on ranges of columns that cover [0, cols), from several threads; `cost` is one column's.
template <class Body>
void for_columns(std::int64_t cols, std::int64_t cost, Body body) {
  constexpr std::int64_t kBlock = 256;  // stretches of a row that the processor fetches ahead in
  const std::int64_t blocks = (cols + kBlock - 1) / kBlock;
  parallel_for(blocks, grain_for(cost * kBlock),
               [&](std::int64_t begin, std::int64_t end) { body(begin * kBlock, std::min(cols, end * kBlock)); });
}

/// A merge with the part that its rows have in the mean.
struct WeightedMerge {
  RowMerge rows;
  float source_part;
  float target_part;  // at a target's first merge; 1 at later ones
};

std::vector<WeightedMerge> weigh(std::span<const RowMerge> merges, const float* weights, std::int64_t rows) {
  struct Target {
    double total = 0;
    std::int64_t members = 0;
    bool started = false;
  };
  const auto weight = [&](std::int64_t row) { return weights == nullptr ? 1.0 : static_cast<double>(weights[row]); };
  std::vector<Target> targets(static_cast<std::size_t>(rows));
  for (const RowMerge& merge : merges) {
    Target& target = targets[static_cast<std::size_t>(merge.target)];
    if (target.members == 0) {
      target.total = weight(merge.target);
      target.members = 1;
    }
    target.total += weight(merge.source);
    ++target.members;
  }
  std::vector<WeightedMerge> weighted;
  for (const RowMerge& merge : merges) {
    Target& target = targets[static_cast<std::size_t>(merge.target)];
    const auto part = [&](std::int64_t row) {
      const bool plain = target.total == 0;
      return static_cast<float>(plain ? 1.0 / static_cast<double>(target.members) : weight(row) / target.total);
    };
    weighted.push_back({merge, part(merge.source), target.started ? 1.0F : part(merge.target)});
    target.started = true;
  }
  return weighted;
}

}  // namespace

void CpuBackend::gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_gather_rows(x, rows, y);
  if (x.data == y.data) {
    for_columns(x.cols, 2 * y.rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = 0; i < y.rows; ++i) {
        copy(x.row(rows[static_cast<std::size_t>(i)]) + begin, y.row(i) + begin, end - begin);
      }
    });
    return;
  }
  parallel_for(y.rows, grain_for(2 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) copy(x.row(rows[static_cast<std::size_t>(i)]), y.row(i), x.cols);
  });
}

void CpuBackend::scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_scatter_rows(x, rows, y);
  parallel_for(x.rows, grain_for(2 * x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) copy(x.row(i), y.row(rows[static_cast<std::size_t>(i)]), x.cols);
  });
}

void CpuBackend::add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const {
  shapes::check_same(x, h);
  shapes::check_same(x, y);
  parallel_for(y.rows, grain_for(3 * y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const from = x.row(t);
      const float* const added = h.row(t);
      float* const to = y.row(t);
      for (std::int64_t i = 0; i < y.cols; ++i) to[i] = from[i] + added[i];
    }
  });
}

void CpuBackend::copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const {
  shapes::check_copy_columns(x, runs, y);
  parallel_for(y.rows, grain_for(3 * y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::fill_n(y.row(t), y.cols, 0.0F);
      for (const ColumnRun& run : runs) std::copy_n(x.row(t) + run.from, run.count, y.row(t) + run.to);
    }
  });
}

void CpuBackend::merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const {
  shapes::check_merge_rows(x, merges);
  const std::vector<WeightedMerge> weighted = weigh(merges, weights, x.rows);
  for_columns(x.cols, 4 * static_cast<std::int64_t>(merges.size()), [&](std::int64_t begin, std::int64_t end) {
    for (const WeightedMerge& merge : weighted) {
      const float* source = x.row(merge.rows.source);
      float* target = x.row(merge.rows.target);
      for (std::int64_t k = begin; k < end; ++k) {
        target[k] = target[k] * merge.target_part + source[k] * merge.source_part;
      }
    }
  });
}

}  // namespace molt
