#include "reduction/parked_rows.h"

#include <algorithm>
#include <numeric>

namespace molt {
namespace {

Matrix<float> first_rows(Matrix<float> x, std::int64_t rows) {
  return {x.data, rows, x.cols, x.stride};
}

bool is_run(std::span<const std::int64_t> rows) {
  return rows.back() - rows.front() + 1 == static_cast<std::int64_t>(rows.size());
}

}  // namespace

ParkedRows::ParkedRows(const Backend& backend, std::int64_t rows, Arena& arena)
    : backend_(backend), rows_(rows), arena_(arena) {}

void ParkedRows::leave(const RowTable::Move& move, bool has_h, Stream& stream) {
  bool moves_on = false;
  for (const auto& [index, rows] : move.parked) moves_on |= park(index, rows, has_h, stream);
  if (moves_on) {
    make_second(stream.residual.cols);
    second_taken_ = true;
  }
  const auto count = static_cast<std::int64_t>(move.stay.size());
  for (const auto branch : {&Stream::residual, &Stream::h}) {
    const Matrix<float> from = stream.*branch;
    stream.*branch = first_rows(moves_on ? second_.*branch : from, count);
    if (has_h || branch == &Stream::residual) backend_.gather_rows(from, move.stay, stream.*branch);
    if (moves_on) second_.*branch = from;
  }
}

/// Whether they stay where they are.
bool ParkedRows::park(std::size_t index, std::span<const std::int64_t> rows, bool has_h, const Stream& stream) {
  Group& parked = group(index);
  if (!second_taken_ && is_run(rows) && 2 * static_cast<std::int64_t>(rows.size()) >= stream.residual.rows) {
    parked.place = rows.front();
    parked.residual = stream.residual.row_range(rows.front(), rows.back() + 1);
    if (has_h) parked.h = stream.h.row_range(rows.front(), rows.back() + 1);
    return true;
  }
  parked.residual = copied(stream.residual, rows);
  if (has_h) parked.h = copied(stream.h, rows);
  return false;
}

void ParkedRows::come_back(const RowTable::Return& back, std::int64_t live, Stream& stream) {
  if (second_taken_ && !falls_into_place(back)) clear_second();
  make_second(stream.residual.cols);
  Stream whole{first_rows(second_.residual, live), first_rows(second_.h, live)};
  for (const auto& [index, places] : back.entering) {
    Group& parked = group(index);
    const bool is_moved = parked.place == kMoved;
    if (is_moved) move_back(parked.residual, places, whole.residual);
    if (parked.h.data == nullptr) {
      const Matrix<float> zeros = room(parked.residual.rows, parked.residual.cols);
      backend_.memory().clear_rows(zeros);
      move_back(zeros, places, whole.h);
    } else if (is_moved) {
      move_back(parked.h, places, whole.h);
    }
    parked = {};
  }
  backend_.scatter_rows(stream.residual, back.live_before, whole.residual);
  backend_.scatter_rows(stream.h, back.live_before, whole.h);
  second_ = stream;
  second_taken_ = false;
  stream = whole;
}

void ParkedRows::move_back(Matrix<float> rows, std::span<const std::int64_t> places, Matrix<float> whole) {
  backend_.scatter_rows(rows, places, whole);
  spare_.push_back(rows);
}

AbsentRows ParkedRows::writing(const RowTable::Participants::Writing& writing) const {
  const Group& parked = groups_[writing.group];
  return {parked.residual, parked.h, writing.map, writing.places};
}

void ParkedRows::adopt(std::size_t index, Matrix<const float> all, std::span<const std::int64_t> rows) {
  group(index).residual = copied(all, rows);
}

ParkedRows::Group& ParkedRows::group(std::size_t index) {
  if (groups_.size() <= index) groups_.resize(index + 1);
  return groups_[index];
}

Matrix<float> ParkedRows::room(std::int64_t rows, std::int64_t width) {
  const auto fits = std::find_if(spare_.begin(), spare_.end(), [&](const auto& spare) { return spare.rows >= rows; });
  if (fits == spare_.end()) return arena_.matrix(rows, width);
  const Matrix<float> found = first_rows(*fits, rows);
  spare_.erase(fits);
  return found;
}

Matrix<float> ParkedRows::copied(Matrix<const float> from, std::span<const std::int64_t> rows) {
  const Matrix<float> copy = room(static_cast<std::int64_t>(rows.size()), from.cols);
  backend_.gather_rows(from, rows, copy);
  return copy;
}

void ParkedRows::make_second(std::int64_t width) {
  if (second_.residual.data == nullptr) second_ = {arena_.matrix(rows_, width), arena_.matrix(rows_, width)};
}

bool ParkedRows::falls_into_place(const RowTable::Return& back) {
  const auto in_place = [](const Group& parked) { return parked.place != kMoved; };
  auto staying = std::count_if(groups_.begin(), groups_.end(), in_place);
  for (const auto& [index, places] : back.entering) {
    const Group& parked = group(index);
    if (in_place(parked) && parked.place == places.front() && is_run(places)) --staying;
  }
  return staying == 0;
}

void ParkedRows::clear_second() {
  for (Group& parked : groups_) {
    if (parked.place == kMoved) continue;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(parked.residual.rows));
    std::iota(rows.begin(), rows.end(), 0);
    parked.residual = copied(parked.residual, rows);
    if (parked.h.data != nullptr) parked.h = copied(parked.h, rows);
    parked.place = kMoved;
  }
  second_taken_ = false;
}

}  // namespace molt
