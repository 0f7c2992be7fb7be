// ParkedRows: the memory of rows that are out of the stream, to write or to come back.
//
// Rows move as little as can be. Where those that leave lie together and are the larger part, they stay where they are
// and the stream goes on in a second place, until they come back. Where they are fewer, they are copied, and their
// neighbours on the shorter side close the gap; so it opens again. A device, whose rows all move at once, would have to
// copy them twice to move them in place: there the stream changes places where it can. Only residuals move: what the
// block before adds has been added before (Stream::h_pending). Used by one thread, for one pass.
#pragma once

#include <vector>

#include "reduction/row_table.h"
#include "tensor/arena.h"

namespace molt {

class ParkedRows {
 public:
  /// For a pass of `rows` rows. `arena` must outlive this. `in_place`: whether the backend moves rows in place at no
  /// more cost than elsewhere.
  ParkedRows(const Backend& backend, std::int64_t rows, Arena& arena, bool in_place);

  /// Rows leave, and `stream`, the residuals, is of those that stay.
  void leave(const RowTable::Move& move, Matrix<float>& stream);

  /// Groups come back: the stream has `live` rows.
  void come_back(const RowTable::Return& back, std::int64_t live, Matrix<float>& stream);

  /// What a group brings to a layer.
  AbsentRows writing(const RowTable::Participants::Writing& writing) const;

  /// As if `rows` of the residuals `all` had left as a group.
  void adopt(std::size_t index, Matrix<const float> all, std::span<const std::int64_t> rows);

 private:
  struct Group {
    Matrix<float> residual = {};
    std::int64_t place = kMoved;  // of the first row in the second stream, where they stayed
  };
  static constexpr std::int64_t kMoved = -1;

  Group& group(std::size_t index);
  bool park(std::size_t index, std::span<const std::int64_t> rows, Matrix<float> stream);

  /// Memory for parked rows: of others that have come back, or new.
  Matrix<float> room(std::int64_t rows, std::int64_t width);
  void move_back(Matrix<float> rows, std::span<const std::int64_t> places, Matrix<float> whole);
  Matrix<float> copied(Matrix<const float> from, std::span<const std::int64_t> rows);
  /// The stream is to lie in the second place, from its first row on; what lies there now is the caller's to keep.
  void change_places(std::int64_t width);

  bool make_hole(const RowTable::Return& back, std::int64_t live);
  /// Moves `count` rows from `begin` on up by `by` rows.
  void shift_up(std::int64_t begin, std::int64_t count, std::int64_t by);
  void look_at(Matrix<float> stream);
  Matrix<float> rows_at(std::int64_t begin, std::int64_t count) const;  // of home_

  /// Where in the second stream the whole would begin for all that stayed there to return to where it lies; or kMoved.
  std::int64_t begin_in_second(const RowTable::Return& back, std::int64_t live);
  void clear_second();

  const Backend& backend_;
  std::int64_t rows_;
  Arena& arena_;
  bool in_place_;
  std::vector<Group> groups_;  // by their number in the table
  // [rows of the pass, d_model] each: where the stream lies, from row begin_ on, and what it changes places with.
  Matrix<float> home_;
  std::int64_t begin_ = 0;
  Matrix<float> second_;       // when first needed
  bool second_taken_ = false;  // groups lie there
  std::vector<Matrix<float>> spare_;
};

}  // namespace molt
