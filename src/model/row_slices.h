// Row slices: a layer's rows, some at a time, so that what one op leaves the next one finds in the processor's caches.
#pragma once

#include <cstdint>
#include <vector>

#include "model/router.h"

namespace molt {

/// Consecutive rows of a layer, and the sequences that they belong to.
struct RowSlice {
  std::int64_t begin = 0, end = 0;  // rows
  std::size_t first_sequence = 0;   // the one that row `begin` belongs to
  std::size_t sequences = 0;        // how many from there on
  std::int64_t earlier = 0;         // rows of the first one that lie in slices before
};

/// Cuts the rows of the sequences into slices of `rows` rows, nearly. A sequence that is longer than one and a half of
/// them is cut at multiples of `rows` from its own first row on, but what would be left over by less than half a slice
/// stays with the slice before (every slice reads all weights); shorter sequences stay whole, and lie together while
/// they are no more than `rows`. So what a sequence's rows see does not depend on the others.
std::vector<RowSlice> cut_rows(Offsets offsets, std::int64_t rows);

/// Who takes part in a slice.
class SlicedRows {
 public:
  /// `whole` must outlive it.
  SlicedRows(const LayerRows& whole, const RowSlice& slice);

  SlicedRows(const SlicedRows&) = delete;
  SlicedRows& operator=(const SlicedRows&) = delete;

  /// Points into this and into what the whole layer's points to.
  const LayerRows& rows() const { return rows_; }

  /// The slice's rows in the stream, which holds those that run in full.
  std::int64_t full_begin() const { return full_begin_; }
  std::int64_t full_end() const { return full_end_; }

 private:
  std::vector<std::int64_t> offsets_;
  std::vector<std::int64_t> full_;
  std::vector<std::vector<std::int64_t>> places_;
  std::vector<AbsentRows> writes_;
  std::int64_t full_begin_, full_end_;
  LayerRows rows_;
};

}  // namespace molt
