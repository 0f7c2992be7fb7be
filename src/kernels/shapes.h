// Shape checks of the ops of backend.h: one function an op, the same for every backend, each called once at the op's
// start.
//
// They assert: whoever calls a backend has checked the user's input long before.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace molt::shapes {

/// The extents of a call of selective_scan.
struct ScanShape {
  std::int64_t channels;  // Di
  std::int64_t states;    // N
};

/// The extents of a call of ssd.
struct SsdShape {
  std::int64_t heads;     // H
  std::int64_t channels;  // P, of one head
  std::int64_t states;    // N
  std::int64_t groups;    // G
  std::int64_t heads_per_group() const { return heads / groups; }
};

inline void check_same(Matrix<const float> a, Matrix<const float> b) {
  MOLT_CHECK(a.rows == b.rows && a.cols == b.cols);
  MOLT_CHECK(a.stride >= a.cols && b.stride >= b.cols);
}

/// `offsets` cut `rows` rows into sequences.
inline void check_offsets(Offsets offsets, std::int64_t rows) {
  MOLT_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows);
  for (std::size_t s = 1; s < offsets.size(); ++s) MOLT_CHECK(offsets[s - 1] <= offsets[s]);
}

/// The same, into as many sequences as there are states.
inline void check_sequences(Offsets offsets, std::span<float* const> states, std::int64_t rows) {
  MOLT_CHECK(offsets.size() == states.size() + 1);
  check_offsets(offsets, rows);
}

inline void check_sequences(const ScanRows& rows, std::int64_t count) {
  check_offsets(rows.offsets, count);
  MOLT_CHECK(rows.states.empty() || rows.rounded.empty());
  MOLT_CHECK(rows.states.size() + rows.rounded.size() == rows.sequences());
}

/// Every one of `rows` is a row of `x`.
inline void check_rows(std::span<const std::int64_t> rows, Matrix<const float> x) {
  for (const std::int64_t row : rows) MOLT_CHECK(0 <= row && row < x.rows);
}

inline void check_matmul(Matrix<const float> x, const PackedMatrix& w, Matrix<float> y, std::int64_t first_out) {
  MOLT_CHECK(x.cols == w.in_features() && x.rows == y.rows);
  MOLT_CHECK(x.stride >= x.cols && y.stride >= y.cols);
  MOLT_CHECK(0 <= first_out && y.cols <= w.out_features() - first_out);
}

inline void check_embed(const Tensor& table, std::span<const TokenId> ids, Matrix<float> y) {
  MOLT_CHECK(table.shape().size() == 2);
  MOLT_CHECK(table.dtype() == DType::f32 || table.dtype() == DType::f16 || table.dtype() == DType::bf16);
  MOLT_CHECK(y.rows == static_cast<std::int64_t>(ids.size()) && y.cols == table.shape()[1]);
  for (const TokenId id : ids) MOLT_CHECK(0 <= id && id < table.shape()[0]);
}

inline void check_embed(const PackedMatrix& table, std::span<const TokenId> ids, Matrix<float> y) {
  MOLT_CHECK(y.rows == static_cast<std::int64_t>(ids.size()) && y.cols == table.in_features());
  for (const TokenId id : ids) MOLT_CHECK(0 <= id && id < table.out_features());
}

inline void check_gated_rms_norm(Matrix<const float> x, Matrix<const float> z, std::int64_t group, Matrix<float> y) {
  check_same(x, z);
  check_same(x, y);
  MOLT_CHECK(group > 0 && x.cols % group == 0);
}

inline void check_causal_conv(Matrix<const float> x, Matrix<const float> weight, Offsets offsets,
                              std::span<float* const> states, Matrix<float> y) {
  check_same(x, y);
  MOLT_CHECK(weight.rows >= 1 && weight.cols == x.cols);
  check_sequences(offsets, states, x.rows);
}

inline ScanShape check_selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                      Matrix<const float> B) {
  check_same(x, dt);
  MOLT_CHECK(A.cols == x.cols && B.cols == A.rows && B.rows == x.rows);
  return {x.cols, A.rows};
}

inline ScanShape check_selective_scan(Matrix<const float> x, Matrix<const float> dt, Matrix<const float> A,
                                      Matrix<const float> B, Matrix<const float> C, const ScanRows& rows,
                                      Matrix<float> y) {
  check_same(x, y);
  check_same(B, C);
  check_sequences(rows, x.rows);
  return check_selective_scan(x, dt, A, B);
}

inline SsdShape check_ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                          Matrix<const float> B, std::int64_t groups) {
  const auto heads = static_cast<std::int64_t>(A.size());
  MOLT_CHECK(heads > 0 && groups > 0 && heads % groups == 0);
  MOLT_CHECK(dt.rows == x.rows && dt.cols == heads && B.rows == x.rows);
  MOLT_CHECK(x.cols % heads == 0 && B.cols % groups == 0);
  return {heads, x.cols / heads, B.cols / groups, groups};
}

inline SsdShape check_ssd(Matrix<const float> x, Matrix<const float> dt, std::span<const float> A,
                          Matrix<const float> B, Matrix<const float> C, std::int64_t groups, std::span<const float> D,
                          const ScanRows& rows, Matrix<float> y) {
  check_same(x, y);
  check_same(B, C);
  MOLT_CHECK(D.empty() || static_cast<std::int64_t>(D.size()) == x.cols);
  check_sequences(rows, x.rows);
  return check_ssd(x, dt, A, B, groups);
}

inline void check_rope(Matrix<const float> x, std::int64_t heads, std::span<const double> frequencies, Offsets offsets,
                       std::span<const std::int64_t> first) {
  MOLT_CHECK(heads > 0 && x.cols % heads == 0);
  MOLT_CHECK(2 * static_cast<std::int64_t>(frequencies.size()) <= x.cols / heads);
  MOLT_CHECK(offsets.size() == first.size() + 1);
  check_offsets(offsets, x.rows);
}

/// Returns H, the heads of queries.
inline std::int64_t check_attention(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v,
                                    const KvShape& kv, Offsets offsets, std::span<const KvSequence> caches,
                                    Matrix<float> y) {
  check_same(q, y);
  check_same(k, v);
  MOLT_CHECK(kv.heads > 0 && kv.head_dim > 0 && k.cols == kv.channels() && k.rows == q.rows);
  MOLT_CHECK(q.cols % kv.channels() == 0);
  MOLT_CHECK(offsets.size() == caches.size() + 1);
  check_offsets(offsets, q.rows);
  for (std::size_t s = 0; s < caches.size(); ++s) {
    const std::int64_t tokens = caches[s].tokens + offsets[s + 1] - offsets[s];
    MOLT_CHECK(tokens <= static_cast<std::int64_t>(caches[s].blocks.size()) * kKvBlock);
  }
  return q.cols / kv.head_dim;
}

inline void check_divergence(Matrix<const float> p, Matrix<const float> q) {
  MOLT_CHECK(p.rows == q.rows && p.cols == q.cols);
}

inline void check_best_match(Matrix<const float> x, std::span<const std::int64_t> sources,
                             std::span<const std::int64_t> targets) {
  check_rows(sources, x);
  check_rows(targets, x);
  for (std::size_t i = 1; i < targets.size(); ++i) MOLT_CHECK(targets[i - 1] < targets[i]);
}

inline void check_gather_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) {
  MOLT_CHECK(y.rows == static_cast<std::int64_t>(rows.size()) && y.cols == x.cols);
  check_rows(rows, x);
  if (x.data != y.data) return;
  MOLT_CHECK(x.stride == y.stride);
  for (std::size_t i = 1; i < rows.size(); ++i) MOLT_CHECK(rows[i - 1] < rows[i]);
}

inline void check_scatter_rows(Matrix<const float> x, std::span<const std::int64_t> rows, Matrix<float> y) {
  MOLT_CHECK(x.rows == static_cast<std::int64_t>(rows.size()) && x.cols == y.cols);
  check_rows(rows, y);
}

inline void check_copy_columns(Matrix<const float> x, std::span<const ColumnRun> runs, Matrix<float> y) {
  MOLT_CHECK(x.rows == y.rows);
  for (const ColumnRun& run : runs) {
    MOLT_CHECK(run.count >= 0 && 0 <= run.from && run.from + run.count <= x.cols);
    MOLT_CHECK(0 <= run.to && run.to + run.count <= y.cols);
  }
}

inline void check_merge_rows(Matrix<const float> x, std::span<const RowMerge> merges) {
  std::vector<bool> is_target(static_cast<std::size_t>(x.rows));
  for (const RowMerge& merge : merges) {
    MOLT_CHECK(0 <= merge.source && merge.source < x.rows && 0 <= merge.target && merge.target < x.rows);
    is_target[static_cast<std::size_t>(merge.target)] = true;
  }
  for (const RowMerge& merge : merges) MOLT_CHECK(!is_target[static_cast<std::size_t>(merge.source)]);
}

}  // namespace molt::shapes
