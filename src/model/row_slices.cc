#include "model/row_slices.h"

#include <algorithm>

namespace molt {
namespace {

/// Which of the ascending `places` lie in the slice: a range of their indices.
struct IndexRange {
  std::int64_t begin, end;
};

IndexRange within(std::span<const std::int64_t> places, const RowSlice& slice) {
  const auto begin = std::lower_bound(places.begin(), places.end(), slice.begin);
  const auto end = std::lower_bound(begin, places.end(), slice.end);
  return {begin - places.begin(), end - places.begin()};
}

std::vector<std::int64_t> places_in_slice(std::span<const std::int64_t> places, IndexRange range, std::int64_t begin) {
  std::vector<std::int64_t> moved(places.begin() + range.begin, places.begin() + range.end);
  for (std::int64_t& place : moved) place -= begin;
  return moved;
}

}  // namespace

std::vector<RowSlice> cut_rows(Offsets offsets, std::int64_t rows) {
  std::vector<RowSlice> slices;
  RowSlice slice;
  const auto finish = [&] {
    if (slice.begin < slice.end) slices.push_back(slice);
    slice.begin = slice.end;
    slice.sequences = 0;
    slice.earlier = 0;
  };
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    if (offsets[s + 1] - slice.begin > rows) finish();
    if (slice.sequences == 0) slice.first_sequence = s;
    ++slice.sequences;
    while (offsets[s + 1] - slice.begin - rows / 2 > rows) {
      slice.end = slice.begin + rows;
      const std::int64_t end = slice.end;
      finish();
      slice.first_sequence = s;
      slice.sequences = 1;
      slice.earlier = end - offsets[s];
    }
    slice.end = offsets[s + 1];
  }
  finish();
  return slices;
}

SlicedRows::SlicedRows(const LayerRows& whole, const RowSlice& slice)
    : full_begin_(slice.begin), full_end_(slice.end), rows_(whole) {
  for (std::size_t i = 0; i <= slice.sequences; ++i) {
    const std::int64_t offset = whole.offsets[slice.first_sequence + i];
    offsets_.push_back(std::clamp(offset, slice.begin, slice.end) - slice.begin);
  }
  rows_.offsets = offsets_;
  if (whole.wanted != nullptr) rows_.wanted = whole.wanted + slice.begin;
  if (whole.multiplicity != nullptr) rows_.multiplicity = whole.multiplicity + slice.begin;
  if (whole.writes.empty()) return;

  const IndexRange full = within(whole.full, slice);
  full_begin_ = full.begin;
  full_end_ = full.end;
  for (const AbsentRows& write : whole.writes) {
    const IndexRange range = within(write.places, slice);
    if (range.begin == range.end) continue;
    places_.push_back(places_in_slice(write.places, range, slice.begin));
    writes_.push_back({write.residual.row_range(range.begin, range.end), write.map, places_.back()});
  }
  rows_.writes = writes_;
  // Where nothing writes there is nothing to tell apart.
  if (!writes_.empty()) full_ = places_in_slice(whole.full, full, slice.begin);
  rows_.full = full_;
}

}  // namespace molt
