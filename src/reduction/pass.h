// ReducedPass: carries reduction out while a pass runs: shows sites to reducers, and does to the stream what they plan.
//
// The arithmetic beside RowTable's bookkeeping. Used by one thread, for one pass.
#pragma once

#include <chrono>

#include "reduction/parked_rows.h"

namespace molt {

class ReducedPass final : public Router {
 public:
  /// `pieces`, `model` and the arenas must outlive the pass. `arena`: the forward pass's own. `parked`: memory of
  /// tokens that left, taken back by the caller after the pass.
  ReducedPass(std::span<const ReducedPiece> pieces, const ModelCore& model, Arena& arena, Arena& parked);

  LayerRows enter(std::int64_t layer, Stream& stream) override;
  ScanSides looks_at(std::int64_t layer) const override;
  bool looks_at_h(std::int64_t layer) const override;
  void leave(std::int64_t layer, const Block& block, const ScanView& scan, Stream& stream) override;

  /// For searches over schedules. Before each block, every row's residual is copied to (*snapshots)[block], h added,
  /// [rows, d_model] in the backend's memory: of those in the stream as it is, of the others as it was when they left.
  void keep_snapshots(std::vector<Tensor>* snapshots);

  /// Takes up a pass before block `layer` from such a snapshot of another pass over the same rows, whose plans may have
  /// differed from there on only: gives the stream. Reducers are asked what they planned before, without a model behind
  /// the question: only those that decide by position give the same answer.
  Stream resume(std::int64_t layer, const Tensor& snapshot);

  /// Which rows of the stream belong to whom, after the last layer.
  const RowTable& table() const { return table_; }

  /// Time spent here so far: choosing, merging and moving tokens.
  double seconds() const { return std::chrono::duration<double>(spent_).count(); }

 private:
  /// What reducers plan behind `layer`, one a sequence.
  std::vector<Plan> plans_seen(std::int64_t layer, const Block& block, const ScanView& scan, const Stream& stream);

  /// The same with nothing to measure.
  std::vector<Plan> plans_unseen(std::int64_t layer) const;

  void carry_out(const RowTable::Move& move, Stream& stream);
  /// Rows move with what is pending added to them: so there is less to move.
  void add_h(Stream& stream) const;
  void look_at(const Stream& stream);
  std::vector<std::int64_t> live_rows() const;  // of all sequences
  void take_back(std::int64_t layer, Stream& stream);

  std::span<const ReducedPiece> pieces_;
  const ModelCore& model_;
  const Backend& backend_;
  Arena& arena_;
  RowTable table_;
  ParkedRows parked_;
  std::vector<AbsentRows> writes_;  // of the present layer
  std::chrono::steady_clock::duration spent_{};
  std::vector<Tensor>* snapshots_ = nullptr;
  Tensor last_seen_;  // every row's residual; kept for snapshots only
};

}  // namespace molt
