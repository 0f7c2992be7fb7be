// Moving rows and merging them.
#include <algorithm>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/shapes.h"

namespace molt {

void ReferenceBackend::gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_gather_rows(x, rows, y);
  for (std::int64_t i = 0; i < y.rows; ++i) {
    const float* from = x.row(rows[static_cast<std::size_t>(i)]);
    for (std::int64_t k = 0; k < x.cols; ++k) y(i, k) = from[k];
  }
}

void ReferenceBackend::scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) const {
  shapes::check_scatter_rows(x, rows, y);
  for (std::int64_t i = 0; i < x.rows; ++i) {
    std::copy_n(x.row(i), x.cols, y.row(rows[static_cast<std::size_t>(i)]));
  }
}

void ReferenceBackend::add_rows(Matrix<const float> x, Matrix<const float> h, Matrix<float> y) const {
  shapes::check_same(x, h);
  shapes::check_same(x, y);
  for (std::int64_t t = 0; t < y.rows; ++t) {
    for (std::int64_t i = 0; i < y.cols; ++i) y(t, i) = x(t, i) + h(t, i);
  }
}

void ReferenceBackend::copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) const {
  shapes::check_copy_columns(x, runs, y);
  for (std::int64_t t = 0; t < y.rows; ++t) {
    std::fill_n(y.row(t), y.cols, 0.0F);
    for (const ColumnRun& run : runs) std::copy_n(x.row(t) + run.from, run.count, y.row(t) + run.to);
  }
}

void ReferenceBackend::merge_rows(Matrix<float> x, std::span<const RowMerge> merges, const float* weights) const {
  shapes::check_merge_rows(x, merges);
  std::vector<std::vector<std::int64_t>> members(static_cast<std::size_t>(x.rows));  // of each row that grows
  for (const RowMerge& merge : merges) {
    auto& rows = members[static_cast<std::size_t>(merge.target)];
    if (rows.empty()) rows.push_back(merge.target);
    rows.push_back(merge.source);
  }
  for (std::int64_t target = 0; target < x.rows; ++target) {
    const auto& rows = members[static_cast<std::size_t>(target)];
    if (rows.empty()) continue;
    double total = 0;
    for (const std::int64_t row : rows) total += weights == nullptr ? 1.0 : weights[row];
    const bool plain = weights == nullptr || total == 0;
    if (plain) total = static_cast<double>(rows.size());
    for (std::int64_t k = 0; k < x.cols; ++k) {
      double sum = 0;
      for (const std::int64_t row : rows) sum += (plain ? 1.0 : weights[row]) * x(row, k);
      x(target, k) = static_cast<float>(sum / total);
    }
  }
}

}  // namespace molt
