// MatchGroups: which searches for matches are multiplied in one go, and the memory that this takes.
//
// Searches of about the same size share a product, padded to the longest of them; a long one is cut into pieces of its
// sources. Host arithmetic only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace molt::cuda {

/// What is multiplied in one go.
struct MatchGroup {
  /// Some sources of a search, and all of its targets.
  struct Piece {
    std::size_t search;
    std::int64_t begin, count;  // of its sources
  };
  std::vector<Piece> pieces;
  std::int64_t sources = 0, targets = 0;  // of each piece, padded

  std::int64_t count() const { return std::ssize(pieces); }
  std::int64_t found() const { return count() * sources; }
  std::int64_t rows() const { return count() * (sources + targets); }
};

class MatchGroups {
 public:
  /// `cols`: of the rows that are compared, in f32 or bf16.
  MatchGroups(std::span<const MatchSearch> searches, std::int64_t cols, DType precision);

  const std::vector<MatchGroup>& groups() const { return groups_; }
  /// Columns of a row as it is multiplied.
  std::int64_t width() const { return width_; }

  // Scratch memory: results of all groups, and what one group needs at the most.
  std::int64_t found() const { return found_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t similarities() const { return similarities_; }
  /// All of it, each of the four parts aligned: 8 bytes a result, `rows` of `width`, 4 bytes a row and a similarity.
  std::int64_t bytes() const;

 private:
  bool fits(const MatchGroup& group, std::int64_t sources, std::int64_t targets, double needed) const;

  std::int64_t width_, element_bytes_;
  std::vector<MatchGroup> groups_;
  std::int64_t found_ = 0, rows_ = 0, similarities_ = 0;
};

}  // namespace molt::cuda
