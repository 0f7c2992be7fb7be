#include "reduction/parked_rows.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace molt {
namespace {

/// How many of ascending rows are the first ones: 0, 1, 2, ...
std::int64_t leading(std::span<const std::int64_t> rows) {
  std::int64_t count = 0;
  while (count < static_cast<std::int64_t>(rows.size()) && rows[static_cast<std::size_t>(count)] == count) ++count;
  return count;
}

bool is_run(std::span<const std::int64_t> rows) {
  return rows.back() - rows.front() + 1 == static_cast<std::int64_t>(rows.size());
}

}  // namespace

ParkedRows::ParkedRows(const Backend& backend, std::int64_t rows, Arena& arena, bool in_place)
    : backend_(backend), rows_(rows), arena_(arena), in_place_(in_place) {}

void ParkedRows::leave(const RowTable::Move& move, Matrix<float>& stream) {
  look_at(stream);
  bool moves_on = false;
  for (const auto& [index, rows] : move.parked) moves_on |= park(index, rows, stream);
  const std::int64_t live = stream.rows;
  const auto stay = static_cast<std::int64_t>(move.stay.size());
  if (moves_on) {
    change_places(stream.cols);
    second_taken_ = true;
    backend_.gather_rows(stream, move.stay, rows_at(0, stay));
  } else {
    // Of those that stay some lie before all that leave, and some behind. Whichever are fewer move up to the others.
    const std::int64_t front = leading(move.stay);
    const bool is_hole = stay == front || move.stay[static_cast<std::size_t>(front)] == live - (stay - front);
    if (is_hole && 2 * front <= stay - front) {
      shift_up(begin_, front, live - stay);
      begin_ += live - stay;
    } else if (stay == front) {
      // They stand where they are to stand.
    } else if (in_place_ || second_taken_) {
      backend_.gather_rows(stream, move.stay, rows_at(begin_, stay));
    } else {
      change_places(stream.cols);
      backend_.gather_rows(stream, move.stay, rows_at(0, stay));
    }
  }
  stream = rows_at(begin_, stay);
}

/// Whether they stay where they are.
bool ParkedRows::park(std::size_t index, std::span<const std::int64_t> rows, Matrix<float> stream) {
  Group& parked = group(index);
  if (!second_taken_ && is_run(rows) && 2 * static_cast<std::int64_t>(rows.size()) >= stream.rows) {
    parked.place = begin_ + rows.front();
    parked.residual = stream.row_range(rows.front(), rows.back() + 1);
    return true;
  }
  parked.residual = copied(stream, rows);
  return false;
}

void ParkedRows::come_back(const RowTable::Return& back, std::int64_t live, Matrix<float>& stream) {
  look_at(stream);
  const std::int64_t begin = second_taken_ ? begin_in_second(back, live) : kMoved;
  if (second_taken_ && begin == kMoved) clear_second();
  if (begin != kMoved || !make_hole(back, live)) {
    change_places(stream.cols);
    begin_ = std::max<std::int64_t>(begin, 0);
    second_taken_ = false;
    backend_.scatter_rows(stream, back.live_before, rows_at(begin_, live));
  }
  stream = rows_at(begin_, live);
  for (const auto& [index, places] : back.entering) {
    Group& parked = group(index);
    if (parked.place == kMoved) move_back(parked.residual, places, stream);
    parked = {};
  }
}

/// Makes room for those that enter where that is one run of rows and their neighbours on one side can move. begin_ is
/// where the stream begins then; it says whether it did.
bool ParkedRows::make_hole(const RowTable::Return& back, std::int64_t live) {
  const auto before = static_cast<std::int64_t>(back.live_before.size());
  const std::int64_t front = leading(back.live_before);
  const std::int64_t behind = before - front;
  const std::int64_t hole = live - before;
  if (behind > 0 && back.live_before[static_cast<std::size_t>(front)] != front + hole) return false;
  if (begin_ >= hole && front <= 2 * behind) {
    begin_ -= hole;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(front));
    std::iota(rows.begin(), rows.end(), hole);
    backend_.gather_rows(rows_at(begin_, hole + front), rows, rows_at(begin_, front));
    return true;
  }
  if (begin_ + live > rows_ || 2 * behind > front) return false;
  shift_up(begin_ + front, behind, hole);
  return true;
}

void ParkedRows::shift_up(std::int64_t begin, std::int64_t count, std::int64_t by) {
  if (count == 0) return;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), 0);
  move_back(copied(rows_at(begin, count), rows), rows, rows_at(begin + by, count));
}

/// Takes the pass's stream for its own when it first sees it.
void ParkedRows::look_at(Matrix<float> stream) {
  if (home_.data == nullptr) home_ = stream;
}

Matrix<float> ParkedRows::rows_at(std::int64_t begin, std::int64_t count) const {
  return {home_.data + begin * home_.stride, count, home_.cols, home_.stride};
}

void ParkedRows::move_back(Matrix<float> rows, std::span<const std::int64_t> places, Matrix<float> whole) {
  backend_.scatter_rows(rows, places, whole);
  spare_.push_back(rows);
}

AbsentRows ParkedRows::writing(const RowTable::Participants::Writing& writing) const {
  const Group& parked = groups_[writing.group];
  return {parked.residual, writing.map, writing.places};
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
  const Matrix<float> found = fits->row_range(0, rows);
  spare_.erase(fits);
  return found;
}

Matrix<float> ParkedRows::copied(Matrix<const float> from, std::span<const std::int64_t> rows) {
  const Matrix<float> copy = room(static_cast<std::int64_t>(rows.size()), from.cols);
  backend_.gather_rows(from, rows, copy);
  return copy;
}

void ParkedRows::change_places(std::int64_t width) {
  if (second_.data == nullptr) second_ = arena_.matrix(rows_, width);
  std::swap(home_, second_);
  begin_ = 0;
}

std::int64_t ParkedRows::begin_in_second(const RowTable::Return& back, std::int64_t live) {
  const auto in_place = [](const Group& parked) { return parked.place != kMoved; };
  auto staying = std::count_if(groups_.begin(), groups_.end(), in_place);
  std::int64_t begin = kMoved;
  for (const auto& [index, places] : back.entering) {
    const Group& parked = group(index);
    if (!in_place(parked)) continue;
    const std::int64_t here = parked.place - places.front();
    if (!is_run(places) || here < 0 || here + live > rows_ || (begin != kMoved && begin != here)) return kMoved;
    begin = here;
    --staying;
  }
  return staying == 0 ? begin : kMoved;
}

void ParkedRows::clear_second() {
  for (Group& parked : groups_) {
    if (parked.place == kMoved) continue;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(parked.residual.rows));
    std::iota(rows.begin(), rows.end(), 0);
    parked.residual = copied(parked.residual, rows);
    parked.place = kMoved;
  }
  second_taken_ = false;
}

}  // namespace molt
