#include "reduction/pass.h"

#include <deque>
#include <functional>

#include "base/parallel.h"
#include "reduction/site_view.h"

namespace molt {
namespace {

/// Adds its lifetime to `spent`.
class Timer {
 public:
  explicit Timer(std::chrono::steady_clock::duration& spent) : spent_(spent) {}
  ~Timer() { spent_ += std::chrono::steady_clock::now() - start_; }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  std::chrono::steady_clock::duration& spent_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

ReducedPass::ReducedPass(std::span<const ReducedPiece> pieces, const ModelCore& model, Arena& arena, Arena& parked)
    : pieces_(pieces),
      model_(model),
      backend_(model.backend()),
      arena_(arena),
      table_(pieces, model),
      parked_(backend_, table_.rows(), parked, backend_.memory().is_host()) {}

LayerRows ReducedPass::enter(std::int64_t layer, Stream& stream) {
  const Timer timer(spent_);
  if (layer == 0 && snapshots_ != nullptr) look_at(stream);
  if (layer == 0 && table_.is_site(-1)) carry_out(table_.apply(-1, plans_unseen(-1)), stream);
  take_back(layer, stream);
  if (snapshots_ != nullptr) {
    look_at(stream);
    Tensor& snapshot = (*snapshots_)[static_cast<std::size_t>(layer)];
    snapshot = backend_.memory().uninitialized(DType::f32, last_seen_.shape());
    backend_.memory().copy(last_seen_.data(), snapshot.data(), snapshot.bytes());
  }
  const RowTable::Participants& p = table_.take_part(layer);
  writes_.clear();
  for (const RowTable::Participants::Writing& writing : p.writing) {
    writes_.push_back(parked_.writing(writing));
  }
  return {.offsets = p.offsets,
          .full = p.full,
          .writes = writes_,
          .wanted = p.all_live ? nullptr : p.wanted.data(),
          .multiplicity = p.multiplicity.empty() ? nullptr : p.multiplicity.data()};
}

ScanSides ReducedPass::looks_at(std::int64_t layer) const {
  ScanSides sides;
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (!table_.is_site(layer, s)) continue;
    const Measures measures = pieces_[s].reduction->reducer->measures();
    sides.output |= measures.output;
    sides.input |= measures.contribution;
  }
  return sides;
}

void ReducedPass::leave(std::int64_t layer, const Block& block, const ScanView& scan, Stream& stream) {
  const Timer timer(spent_);
  if (!table_.is_site(layer)) return;
  if (snapshots_ != nullptr) look_at(stream);
  carry_out(table_.apply(layer, plans_seen(layer, block, scan, stream)), stream);
}

std::vector<Plan> ReducedPass::plans_seen(std::int64_t layer, const Block& block, const ScanView& scan,
                                          const Stream& stream) {
  BlockMeasures measures({table_, backend_, block, scan, stream, arena_});
  std::deque<SiteView> sites;
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (!table_.is_site(layer, s)) continue;
    sites.emplace_back(
        SiteView::Context{.table = table_, .piece = pieces_[s], .sequence = s, .layer = layer, .measures = measures});
  }
  // What is measured of all sequences is so for the first. Where it asks for matches, choosing takes a while: the
  // others do so on all threads.
  bool asks = false;
  const auto first_and_others = [&](auto step) {
    step(0);
    asks = asks || measures.has_questions(sites.front().sequence());
    const auto others = std::ssize(sites) - 1;
    parallel_for(others, asks ? 1 : others, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) step(static_cast<std::size_t>(1 + i));
    });
  };
  std::vector<std::function<Plan()>> planning(sites.size());
  first_and_others(
      [&](std::size_t i) { planning[i] = pieces_[sites[i].sequence()].reduction->reducer->begin_plan(sites[i]); });
  std::vector<Plan> plans(pieces_.size());
  first_and_others([&](std::size_t i) { plans[sites[i].sequence()] = planning[i](); });
  return plans;
}

std::vector<Plan> ReducedPass::plans_unseen(std::int64_t layer) const {
  std::vector<Plan> plans(pieces_.size());
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (!table_.is_site(layer, s)) continue;
    plans[s] = pieces_[s].reduction->reducer->plan(BlindSite(table_, pieces_[s], s, layer));
  }
  return plans;
}

bool ReducedPass::looks_at_h(std::int64_t layer) const {
  return table_.is_site(layer);
}

void ReducedPass::carry_out(const RowTable::Move& move, Stream& stream) {
  if (move.stay_all) return;
  const float* weights = move.weights.empty() ? nullptr : move.weights.data();
  backend_.merge_rows(stream.residual, move.residual_merges, weights);
  if (stream.h_pending) backend_.merge_rows(stream.h, move.hidden_merges, weights);
  add_h(stream);
  parked_.leave(move, stream.residual);
  stream.h.rows = stream.residual.rows;
}

void ReducedPass::add_h(Stream& stream) const {
  if (stream.h_pending) backend_.add_rows(stream.residual, stream.h, stream.residual);
  stream.h_pending = false;
}

void ReducedPass::take_back(std::int64_t layer, Stream& stream) {
  const RowTable::Return back = table_.take_back(layer);
  if (back.entering.empty()) return;
  add_h(stream);
  parked_.come_back(back, table_.live_offsets().back(), stream.residual);
  stream.h.rows = stream.residual.rows;
}

void ReducedPass::keep_snapshots(std::vector<Tensor>* snapshots) {
  snapshots_ = snapshots;
  snapshots_->assign(static_cast<std::size_t>(model_.config().n_layer), Tensor());
  last_seen_ = backend_.memory().zeros(DType::f32, {table_.rows(), model_.config().d_model});
}

void ReducedPass::look_at(const Stream& stream) {
  const Arena::Scope scope(arena_);
  Matrix<float> seen = stream.residual;
  if (stream.h_pending) {
    seen = arena_.matrix(seen.rows, seen.cols);
    backend_.add_rows(stream.residual, stream.h, seen);
  }
  backend_.scatter_rows(seen, live_rows(), last_seen_.matrix());
}

std::vector<std::int64_t> ReducedPass::live_rows() const {
  std::vector<std::int64_t> live;
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    const auto rows = table_.live_rows(s);
    live.insert(live.end(), rows.begin(), rows.end());
  }
  return live;
}

Stream ReducedPass::resume(std::int64_t layer, const Tensor& snapshot) {
  for (std::int64_t i = -1; i < layer; ++i) {
    if (i >= 0) {
      table_.take_back(i);
      table_.take_part(i);
    }
    table_.apply(i, plans_unseen(i));
  }
  const Matrix<float> all = snapshot.matrix();
  for (std::size_t g = 0; g < table_.groups(); ++g) parked_.adopt(g, all, table_.group(g).rows);
  // Memory for all rows: those that are away may come back.
  Stream stream{arena_.matrix(all.rows, all.cols), arena_.matrix(all.rows, all.cols)};
  const std::vector<std::int64_t> live = live_rows();
  for (const auto branch : {&Stream::residual, &Stream::h}) {
    stream.*branch = (stream.*branch).row_range(0, static_cast<std::int64_t>(live.size()));
  }
  backend_.gather_rows(all, live, stream.residual);
  return stream;
}

}  // namespace molt
