// The rows that take part in a layer, put together from the stream's rows and from those that only write.
#pragma once

#include <optional>
#include <span>

#include "model/block.h"

namespace molt {

/// The rows of `all` at `places`, where those lie together: who writes there needs no copy. Nothing where they do not.
inline std::optional<Matrix<float>> together(Matrix<float> all, std::span<const std::int64_t> places) {
  const auto count = static_cast<std::int64_t>(places.size());
  if (count == 0 || places.back() - places.front() + 1 != count) return std::nullopt;
  return all.row_range(places.front(), places.front() + count);
}

/// [T, columns]: `full_rows` [F, columns] and what `project(rows, part)` gives of each group of writing rows, in their
/// places. `full_rows` itself where nothing writes.
template <class Project>
Matrix<float> participants(const Backend& backend, const BlockInput& input, Matrix<float> full_rows, Arena& arena,
                           Project project) {
  if (!input.has_writes()) return full_rows;
  const Matrix<float> all = arena.matrix(input.rows(), full_rows.cols);
  backend.scatter_rows(full_rows, input.full, all);
  for (const WriteRows& rows : input.writes) {
    if (const auto there = together(all, rows.places)) {
      project(rows, *there);
      continue;
    }
    const Arena::Scope scope(arena);
    const Matrix<float> part = arena.matrix(rows.x.rows, full_rows.cols);
    project(rows, part);
    backend.scatter_rows(part, rows.places, all);
  }
  return all;
}

/// `kept` if somebody looks at it, else scratch memory.
inline Matrix<float> kept_or_scratch(Matrix<float> kept, std::int64_t rows, std::int64_t cols, Arena& arena) {
  return kept.data != nullptr ? kept : arena.matrix(rows, cols);
}

/// Of a scan's y [T, d_inner] those of the rows that run in full: [F, d_inner], in the view where somebody looks, else
/// in place.
inline Matrix<float> full_part(const Backend& backend, const BlockInput& input, Matrix<float> y, const ScanView& scan) {
  if (!input.has_writes()) return y;
  const Matrix<float> part = scan.has_output() ? scan.y : y.row_range(0, input.x.rows);
  backend.gather_rows(y, input.full, part);
  return part;
}

/// Where the gated form of the scan's y goes: to y itself or, where somebody looks at that, to the place of the scan's
/// x, which nobody needs by then, and which caches hold; to scratch memory where that is looked at, too, or is none of
/// these rows'.
inline Matrix<float> gated_place(const BlockInput& input, Matrix<float> x, Matrix<float> y, const ScanView& scan,
                                 Arena& arena) {
  if (!scan.has_output()) return y;
  return scan.has_input() || input.has_writes() ? arena.matrix(y.rows, y.cols) : x;
}

}  // namespace molt
