// The rows that take part in a layer, put together from the stream's rows and from those that only write.
#pragma once

#include "model/block.h"

namespace molt {

/// [T, columns]: `full_rows` [F, columns] and what `project(rows, part)` gives of each group of writing rows, in their
/// places. `full_rows` itself where nothing writes.
template <class Project>
Matrix<float> participants(const Backend& backend, const BlockInput& input, Matrix<float> full_rows, Arena& arena,
                           Project project) {
  if (!input.has_writes()) return full_rows;
  const Matrix<float> all = arena.matrix(input.rows(), full_rows.cols);
  backend.scatter_rows(full_rows, input.full, all);
  for (const WriteRows& rows : input.writes) {
    const Arena::Scope scope(arena);
    const Matrix<float> part = arena.matrix(rows.x.rows, full_rows.cols);
    project(rows, part);
    backend.scatter_rows(part, rows.places, all);
  }
  return all;
}

/// Of `rows` [T, columns] those that run in full, in place: [F, columns].
inline Matrix<float> full_part(const Backend& backend, const BlockInput& input, Matrix<float> rows) {
  if (!input.has_writes()) return rows;
  const Matrix<float> part = rows.row_range(0, input.x.rows);
  backend.gather_rows(rows, input.full, part);
  return part;
}

}  // namespace molt
