// The Sites that reducers see: one that measures a running model, and one that has nothing to measure.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "reduction/row_table.h"
#include "tensor/arena.h"

namespace molt {

/// Where a window's tokens are; what all kinds of Site share.
class PlacedSite : public Site {
 public:
  PlacedSite(const RowTable& table, const ReducedPiece& piece, std::size_t sequence, std::int64_t layer)
      : place_(piece.place),
        layer_(layer),
        positions_(table.positions(sequence)),
        protection_(table.protection(sequence)),
        to_remove_(table.scheduled_removals(sequence, layer)) {}

  std::int64_t layer() const override { return layer_; }
  const Place& place() const override { return place_; }
  std::span<const std::int64_t> positions() const override { return positions_; }
  std::span<const std::uint8_t> is_protected() const override { return protection_; }
  std::int64_t to_remove() const override { return to_remove_; }

 private:
  Place place_;
  std::int64_t layer_;
  std::vector<std::int64_t> positions_;
  std::vector<std::uint8_t> protection_;
  std::int64_t to_remove_;
};

/// A site without a model behind it: every measure is noise, the same at every call. Counts come out right, choices do
/// not. For rehearsals, and before the first block, where a reducer has no reason to ask.
class BlindSite final : public PlacedSite {
 public:
  BlindSite(const RowTable& table, const ReducedPiece& piece, std::size_t sequence, std::int64_t layer)
      : PlacedSite(table, piece, sequence, layer), width_(table.model().config().d_model) {}

  std::vector<float> importance(Importance metric) const override;
  std::vector<Match> match(Feature feature, std::span<const std::int64_t> sources,
                           std::span<const std::int64_t> targets, bool later_only) const override;
  std::vector<float> contribution() const override;
  std::vector<float> features(Feature feature) const override;

 private:
  std::int64_t width_;  // of all features alike
};

/// What is measured of the tokens of all sequences behind one block: once, when the first of its sites asks; matches,
/// which each site asks for itself, when the first of them is fetched. (A device is waited for each time.) Sites may
/// ask from several threads, one sequence from one at a time.
class BlockMeasures {
 public:
  struct Context {
    const RowTable& table;
    const Backend& backend;
    const Block& block;
    const ScanView& scan;  // the sides that the reducers' measures() ask for, at least
    const Stream& stream;
    Arena& arena;
  };
  /// What is given must outlive this.
  explicit BlockMeasures(const Context& context) : c_(context), asked_(context.table.live_offsets().size() - 1) {}

  /// Of each row of the stream.
  std::span<const float> importance(Importance metric);

  /// Of each row that took part in the block.
  std::span<const float> contribution();

  /// A copy of rows [begin, end) of the stream by a feature.
  std::vector<float> features(Feature feature, std::int64_t begin, std::int64_t end);

  /// What is to be matched, by rows of the stream from `first` on.
  struct Question {
    Feature feature;
    bool later_only;
    std::int64_t first;
    std::vector<std::int64_t> sources, targets;
  };
  /// The number among the sequence's by which the answer is known.
  std::size_t ask(std::size_t sequence, Question question);
  bool has_questions(std::size_t sequence) const { return !asked_[sequence].empty(); }

  /// One a source.
  struct Answer {
    std::vector<std::int64_t> match;
    std::vector<float> similarity;
  };
  /// Of a question, and of all others that are open.
  const Answer& answer(std::size_t sequence, std::size_t number);

 private:
  /// A device knows the order of what one thread asks for. Before another one does, all must be done.
  void be_in_order() const {
    if (std::this_thread::get_id() != owner_) c_.backend.finish_all();
  }

  /// The rows of the stream by a feature; scratch memory comes from the arena.
  Matrix<const float> rows_by(Feature feature) const;

  struct Asked {
    Question question;
    std::optional<Answer> answer = {};
  };

  Context c_;
  std::thread::id owner_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::map<Importance, std::vector<float>> importance_;
  std::optional<std::vector<float>> contribution_;
  std::vector<std::deque<Asked>> asked_;  // of each sequence
};

/// A site of a running pass. Measures are taken when asked for; one that is no number (weights that hold NaN, say) is
/// an Error naming the block.
class SiteView final : public PlacedSite {
 public:
  struct Context {
    const RowTable& table;
    const ReducedPiece& piece;
    std::size_t sequence;
    std::int64_t layer;
    BlockMeasures& measures;
  };
  explicit SiteView(const Context& context)
      : PlacedSite(context.table, context.piece, context.sequence, context.layer), c_(context) {}

  std::size_t sequence() const { return c_.sequence; }

  std::vector<float> importance(Importance metric) const override;
  std::vector<Match> match(Feature feature, std::span<const std::int64_t> sources,
                           std::span<const std::int64_t> targets, bool later_only) const override;
  Matches ask_match(Feature feature, std::vector<std::int64_t> sources, std::vector<std::int64_t> targets,
                    bool later_only) const override;
  std::vector<float> contribution() const override;
  std::vector<float> features(Feature feature) const override;

 private:
  /// Throws Error when the reducer asks for a measure that it did not name.
  void check_named(bool Measures::*named, std::string_view measure) const;

  Context c_;
};

}  // namespace molt
