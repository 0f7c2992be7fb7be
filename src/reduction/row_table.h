// RowTable: where every token of a pass is, layer by layer: in the stream, parked beside it, or gone.
//
// The bookkeeping of reduction, without its arithmetic: it checks and takes in plans, says who takes part in which
// layer with which multiplicity, counts what that costs, and writes records. So a rehearsal needs no model run. Used by
// one thread, for one pass.
//
// Rows are numbered three ways: `row`, a token of the pass as it began; `live`, its number in the stream; `place`, its
// number among those that take part in a layer (the stream's rows and those that only write).
#pragma once

#include <span>
#include <vector>

#include "model/router.h"
#include "molt/reducer.h"
#include "reduction/core.h"

namespace molt {

/// One sequence of a pass: a window of its tokens, and how they are to be reduced.
struct ReducedPiece {
  const Reduction::Core* reduction = nullptr;  // null: not at all
  Place place;
  std::int64_t fed = 0;               // tokens fed together with this window's, all windows: the last is protected
  std::span<std::int64_t> owed = {};  // [layers], decay left behind at the end of the previous window; see below
  ReductionRecord* record = nullptr;  // or null
};

class RowTable {
 public:
  /// `pieces` must outlive the table. Row numbers follow the pieces.
  RowTable(std::span<const ReducedPiece> pieces, const ModelCore& model);

  /// Tokens that left together, by the same course: those that write or come back are parked.
  struct Group {
    Course course;
    std::vector<std::int64_t> rows;  // ascending
    bool returned = false;
  };

  /// What a plan (or several, of several sequences) asks of the stream. All numbers are live ones before the move.
  struct Move {
    std::vector<std::int64_t> stay;                                         // ascending
    std::vector<std::pair<std::size_t, std::vector<std::int64_t>>> parked;  // group, its rows
    std::vector<RowMerge> hidden_merges;
    std::vector<RowMerge> residual_merges;
    std::vector<float> weights;  // [live], or empty for ones
    bool stay_all = true;
  };

  /// Of the pass as it began.
  std::int64_t rows() const { return offsets_.back(); }

  /// Whether a sequence wants to look behind block `layer` (-1: before the first).
  bool is_site(std::int64_t layer) const;
  bool is_site(std::int64_t layer, std::size_t sequence) const;

  /// Rows of a sequence that are in the stream, ascending.
  std::span<const std::int64_t> live_rows(std::size_t sequence) const;

  /// Bounds of the sequences' rows in the stream, [S + 1].
  const std::vector<std::int64_t>& live_offsets() const { return live_offsets_; }

  /// Positions of live rows of a sequence, and which of them are protected; how many the schedule removes behind
  /// `layer`.
  std::vector<std::int64_t> positions(std::size_t sequence) const;
  std::vector<std::uint8_t> protection(std::size_t sequence) const;
  std::int64_t scheduled_removals(std::size_t sequence, std::int64_t layer) const;

  /// Takes in one plan a sequence (empty ones for those that have none), made behind `layer`. Throws Error naming the
  /// method when a plan breaks the contract of molt/reducer.h.
  Move apply(std::int64_t layer, std::span<const Plan> plans);

  /// Groups that return before `layer`; after the call their rows are live. `live_before`: where in the new stream the
  /// rows stand that were in it; `entering`: group and its places in the new stream.
  struct Return {
    std::vector<std::int64_t> live_before;
    std::vector<std::pair<std::size_t, std::vector<std::int64_t>>> entering;
  };
  Return take_back(std::int64_t layer);

  /// Who takes part in `layer`; to be asked once a layer, in order. Valid until the next call.
  struct Participants {
    std::vector<std::int64_t> offsets;
    bool all_live = true;  // nothing writes: places are live numbers, full and wanted empty
    std::vector<std::int64_t> full;
    std::vector<std::uint8_t> wanted;
    std::vector<float> multiplicity;  // empty: ones
    struct Writing {
      std::size_t group;
      const WriteMap* map;
      std::vector<std::int64_t> places;
    };
    std::vector<Writing> writing;
  };
  const Participants& take_part(std::int64_t layer);
  const Participants& participants() const { return participants_; }

  const Group& group(std::size_t index) const { return groups_[index]; }
  std::size_t groups() const { return groups_.size(); }
  const ModelCore& model() const { return model_; }

 private:
  static constexpr std::int32_t kLive = -1;
  static constexpr std::int32_t kGone = -2;

  std::size_t group_of(const Course& course, std::size_t first);
  void check(const Plan& plan, std::size_t sequence, std::int64_t layer) const;
  void depart(const Plan& plan, std::size_t sequence, std::int64_t layer, std::size_t first_group, Move& move);
  void note(const Plan& plan, std::size_t sequence, std::int64_t layer) const;
  void update_live();
  void count(std::int64_t layer) const;

  std::span<const ReducedPiece> pieces_;
  const ModelCore& model_;
  std::vector<std::int64_t> offsets_;       // [S + 1], of rows
  std::vector<std::int32_t> where_;         // [rows]: kLive, kGone, or the group in which it is parked
  std::vector<std::uint8_t> carries_;       // [rows]: whether it leaves its decay behind where it takes no part
  std::vector<std::int64_t> live_;          // rows in the stream, ascending
  std::vector<std::int64_t> live_offsets_;  // [S + 1]
  std::vector<Group> groups_;
  Participants participants_;
  bool untouched_ = true;  // every row is live and nothing is owed
};

}  // namespace molt
