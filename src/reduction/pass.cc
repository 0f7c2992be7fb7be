#include "reduction/pass.h"

#include <algorithm>

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

Matrix<float> first_rows(Matrix<float> x, std::size_t rows) {
  return {x.data, static_cast<std::int64_t>(rows), x.cols, x.stride};
}

}  // namespace

ReducedPass::ReducedPass(std::span<const ReducedPiece> pieces, const ModelCore& model, Arena& arena, Arena& parked)
    : pieces_(pieces),
      model_(model),
      backend_(model.backend()),
      arena_(arena),
      parked_arena_(parked),
      table_(pieces, model) {}

LayerRows ReducedPass::enter(std::int64_t layer, Stream& stream) {
  const Timer timer(spent_);
  if (layer == 0 && snapshots_ != nullptr) look_at(stream, false);
  if (layer == 0 && table_.is_site(-1)) {
    carry_out(table_.apply(-1, plans_unseen(-1)), false, stream);
  }
  take_back(layer, stream);
  if (snapshots_ != nullptr) {
    look_at(stream, layer > 0);
    Tensor& snapshot = (*snapshots_)[static_cast<std::size_t>(layer)];
    snapshot = backend_.memory().uninitialized(DType::f32, last_seen_.shape());
    backend_.memory().copy(last_seen_.data(), snapshot.data(), snapshot.bytes());
  }
  const RowTable::Participants& p = table_.take_part(layer);
  writes_.clear();
  for (const RowTable::Participants::Writing& writing : p.writing) {
    const Parked& parked = parked_[writing.group];
    writes_.push_back({writing.map == nullptr ? parked.residual : parked.unit, writing.map, writing.places});
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
  if (snapshots_ != nullptr) look_at(stream, true);
  std::vector<Plan> plans(pieces_.size());
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (!table_.is_site(layer, s)) continue;
    const Arena::Scope scope(arena_);
    const SiteView site({.table = table_,
                         .piece = pieces_[s],
                         .sequence = s,
                         .layer = layer,
                         .backend = backend_,
                         .block = block,
                         .scan = scan,
                         .stream = stream,
                         .arena = arena_});
    plans[s] = pieces_[s].reduction->reducer->plan(site);
  }
  carry_out(table_.apply(layer, plans), true, stream);
}

std::vector<Plan> ReducedPass::plans_unseen(std::int64_t layer) const {
  std::vector<Plan> plans(pieces_.size());
  for (std::size_t s = 0; s < pieces_.size(); ++s) {
    if (!table_.is_site(layer, s)) continue;
    plans[s] = pieces_[s].reduction->reducer->plan(BlindSite(table_, pieces_[s], s, layer));
  }
  return plans;
}

void ReducedPass::carry_out(const RowTable::Move& move, bool has_h, Stream& stream) {
  if (move.stay_all) return;
  for (const auto& [group, rows] : move.parked) {
    if (parked_.size() <= group) parked_.resize(group + 1);
    park(rows, has_h, stream, parked_[group]);
  }
  const float* weights = move.weights.empty() ? nullptr : move.weights.data();
  backend_.merge_rows(stream.residual, move.residual_merges, weights);
  if (has_h) backend_.merge_rows(stream.h, move.hidden_merges, weights);
  for (Matrix<float>* branch : {&stream.residual, &stream.h}) {
    const Matrix<float> kept = first_rows(*branch, move.stay.size());
    if (has_h || branch == &stream.residual) backend_.gather_rows(*branch, move.stay, kept);
    *branch = kept;
  }
}

void ReducedPass::park(std::span<const std::int64_t> rows, bool has_h, const Stream& stream, Parked& parked) {
  const std::int64_t width = stream.residual.cols;
  const auto count = static_cast<std::int64_t>(rows.size());
  parked = {room(count, width), room(count, width)};
  backend_.gather_rows(stream.residual, rows, parked.residual);
  const float eps = model_.config().norm_eps;
  if (!has_h) {
    backend_.rms_norm(parked.residual, nullptr, eps, parked.unit);
    return;
  }
  const Arena::Scope scope(arena_);
  const Matrix<float> h = arena_.matrix(parked.residual.rows, width);
  backend_.gather_rows(stream.h, rows, h);
  backend_.add_rms_norm(parked.residual, h, nullptr, eps, parked.unit);
}

void ReducedPass::take_back(std::int64_t layer, Stream& stream) {
  const RowTable::Return back = table_.take_back(layer);
  if (back.entering.empty()) return;
  const auto live = static_cast<std::size_t>(table_.live_offsets().back());
  for (Matrix<float>* branch : {&stream.residual, &stream.h}) {
    // Those that return bring their residual; they have no output of the block before. The stream changes places with
    // a second one: both have room for all rows.
    Matrix<float>& other = branch == &stream.residual ? other_.residual : other_.h;
    if (other.data == nullptr) other = parked_arena_.matrix(rows(), branch->cols);
    const Matrix<float> together = first_rows(other, live);
    if (branch == &stream.h) clear_rows(together);
    backend_.scatter_rows(*branch, back.live_before, together);
    for (const auto& [group, places] : back.entering) {
      if (branch == &stream.residual) backend_.scatter_rows(parked_[group].residual, places, together);
    }
    other = *branch;
    *branch = together;
  }
  for (const auto& [group, places] : back.entering) {
    spare_.push_back(parked_[group].residual);
    spare_.push_back(parked_[group].unit);
  }
}

std::int64_t ReducedPass::rows() const {
  std::int64_t rows = 0;
  for (const ReducedPiece& piece : pieces_) rows += piece.place.tokens;
  return rows;
}

Matrix<float> ReducedPass::room(std::int64_t rows, std::int64_t width) {
  const auto fits = std::find_if(spare_.begin(), spare_.end(), [&](const auto& spare) { return spare.rows >= rows; });
  if (fits == spare_.end()) return parked_arena_.matrix(rows, width);
  const Matrix<float> found = first_rows(*fits, static_cast<std::size_t>(rows));
  spare_.erase(fits);
  return found;
}

void ReducedPass::keep_snapshots(std::vector<Tensor>* snapshots) {
  snapshots_ = snapshots;
  snapshots_->assign(static_cast<std::size_t>(model_.config().n_layer), Tensor());
  last_seen_ = backend_.memory().zeros(DType::f32, {rows(), model_.config().d_model});
}

void ReducedPass::look_at(const Stream& stream, bool has_h) {
  const Arena::Scope scope(arena_);
  Matrix<float> seen = stream.residual;
  if (has_h) {
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

void ReducedPass::clear_rows(Matrix<float> rows) const {
  if (rows.rows == 0) return;
  const std::int64_t extent = (rows.rows - 1) * rows.stride + rows.cols;  // with what lies between them
  backend_.memory().clear(reinterpret_cast<std::byte*>(rows.data), extent * size_of(DType::f32));
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
  parked_.resize(table_.groups());
  for (std::size_t g = 0; g < parked_.size(); ++g) {
    const std::vector<std::int64_t>& rows = table_.group(g).rows;
    Parked& parked = parked_[g];
    parked.residual = parked_arena_.matrix(static_cast<std::int64_t>(rows.size()), all.cols);
    parked.unit = parked_arena_.matrix(static_cast<std::int64_t>(rows.size()), all.cols);
    backend_.gather_rows(all, rows, parked.residual);
    backend_.rms_norm(parked.residual, nullptr, model_.config().norm_eps, parked.unit);
  }
  // Memory for all rows: those that are away may come back.
  Stream stream{arena_.matrix(all.rows, all.cols), arena_.matrix(all.rows, all.cols)};
  const std::vector<std::int64_t> live = live_rows();
  stream = {first_rows(stream.residual, live.size()), first_rows(stream.h, live.size())};
  backend_.gather_rows(all, live, stream.residual);
  clear_rows(stream.h);
  return stream;
}

}  // namespace molt
