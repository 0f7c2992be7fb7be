// Session: cuts prompts into windows, packs windows of several sequences into passes, runs them.
#include "molt/session.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "base/fail.h"
#include "engine/recorded_steps.h"
#include "model/model.h"
#include "reduction/pass.h"

namespace molt {
namespace {

constexpr std::int64_t kLogitsRows = 192;  // rows of logits that feed_all() holds at a time

/// A run of one sequence's tokens that goes through the layers in one pass.
struct Piece {
  std::size_t sequence;
  std::int64_t begin;  // within the sequence's tokens
  std::int64_t end;
};

/// The passes that a batch needs. Every sequence is cut at multiples of its window (its reduction's, or the session's),
/// whatever else is in the batch; a pass holds as many pieces as fit in the session's window, at most one of each
/// sequence, in the sequences' order.
std::vector<std::vector<Piece>> plan_passes(std::span<const Sequence> batch, std::int64_t rows_at_once) {
  std::vector<std::vector<Piece>> passes;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const auto length = static_cast<std::int64_t>(batch[s].tokens.size());
    const Reduction* reduction = batch[s].reduce.reduction;
    const std::int64_t window = reduction != nullptr && reduction->window() > 0 ? reduction->window() : rows_at_once;
    for (std::int64_t begin = 0; begin < length; begin += window) {
      const Piece piece{s, begin, std::min(length, begin + window)};
      const auto rows = [](const std::vector<Piece>& pass) {
        std::int64_t sum = 0;
        for (const Piece& p : pass) sum += p.end - p.begin;
        return sum;
      };
      const bool fits = !passes.empty() && passes.back().back().sequence != s &&
                        rows(passes.back()) + (piece.end - piece.begin) <= rows_at_once;
      if (!fits) passes.emplace_back();
      passes.back().push_back(piece);
    }
  }
  return passes;
}

/// What the sequences of a batch that are reduced carry from window to window.
class ReducedSequences {
 public:
  ReducedSequences(std::span<const Sequence> batch, const ModelCore& model) : batch_(batch), owed_(batch.size()) {
    for (std::size_t s = 0; s < batch.size(); ++s) {
      if (batch[s].reduce.record != nullptr) {
        *batch[s].reduce.record = {};
        batch[s].reduce.record->tokens = static_cast<std::int64_t>(batch[s].tokens.size());
      }
      if (batch[s].reduce.reduction == nullptr) continue;
      any_ = true;
      owed_[s].assign(static_cast<std::size_t>(model.config().n_layer), 0);
    }
  }

  /// The pieces of a pass as reduction sees them; none when no sequence is reduced.
  std::vector<ReducedPiece> pieces(const std::vector<Piece>& pass) {
    std::vector<ReducedPiece> pieces;
    if (!any_) return pieces;
    for (const Piece& piece : pass) {
      const Sequence& sequence = batch_[piece.sequence];
      const auto fed = static_cast<std::int64_t>(sequence.tokens.size());
      Place place{.begin = piece.begin, .tokens = piece.end - piece.begin, .length = fed};
      if (sequence.reduce.more) place.length.reset();
      const Reduction* reduction = sequence.reduce.reduction;
      pieces.push_back({.reduction = reduction == nullptr ? nullptr : &reduction->core(),
                        .place = place,
                        .fed = fed,
                        .owed = owed_[piece.sequence],
                        .record = sequence.reduce.record});
    }
    return pieces;
  }

  /// Puts records in order.
  void finish() const {
    for (const Sequence& sequence : batch_) {
      if (sequence.reduce.record != nullptr) sequence.reduce.record->sort();
    }
  }

 private:
  std::span<const Sequence> batch_;
  std::vector<std::vector<std::int64_t>> owed_;
  bool any_ = false;
};

}  // namespace

class Session::Impl {
 public:
  Impl(const Model& model, SessionOptions options)
      : model_(model),
        options_(std::move(options)),
        arena_(model.core()->backend().memory()),
        parked_(model.core()->backend().memory()),
        recorded_(*model.core()) {
    if (options_.window < 1) fail("the window must be at least 1 token, not {}", options_.window);
  }

  void check(std::span<const Sequence> batch) const {
    const std::int64_t vocab = model_.vocab_size();
    std::set<const State*> states;
    for (std::size_t s = 0; s < batch.size(); ++s) {
      if (batch[s].tokens.empty()) fail("sequence {} of the batch is empty; feed at least one token", s);
      if (!batch[s].state->belongs_to(model_)) fail("the state of sequence {} belongs to another model", s);
      if (batch[s].state->type() != batch.front().state->type()) {
        fail("the states of sequences 0 and {} of the batch are held in different types; convert one", s);
      }
      if (!states.insert(batch[s].state).second) {
        fail("sequence {} of the batch has the state of another one; copy it first", s);
      }
      const std::int64_t most = model_.core()->config().max_tokens;
      const std::int64_t tokens = batch[s].state->tokens() + std::ssize(batch[s].tokens);
      if (most > 0 && tokens > most) {
        fail("sequence {} would be {} tokens long; {} was made for texts of up to {} (max_position_embeddings)", s,
             tokens, model_.source(), most);
      }
      if (batch[s].reduce.reduction != nullptr && !batch[s].reduce.reduction->belongs_to(model_)) {
        fail("the reduction of sequence {} was made for another model", s);
      }
      for (std::size_t i = 0; i < batch[s].tokens.size(); ++i) {
        const TokenId id = batch[s].tokens[i];
        if (id < 0 || id >= vocab) {
          fail(
              "token {} at position {} lies outside of the model's vocabulary of {}: is this the model's own "
              "tokenizer?",
              id, i, vocab);
        }
      }
    }
  }

  std::span<const float> feed(std::span<const Sequence> batch) {
    check(batch);
    logits_.resize(batch.size() * static_cast<std::size_t>(model_.vocab_size()));
    if (repeat_step(batch)) return logits_;
    run(batch, [&](const std::vector<Piece>& pass, const Rows& rows_of, const Stream& stream) {
      // Logits are wanted where a sequence ends. Sequences that end beside each other go through the head together.
      std::vector<std::int64_t> rows;
      std::size_t first = 0;
      for (std::size_t p = 0; p < pass.size(); ++p) {
        const std::size_t s = pass[p].sequence;
        if (pass[p].end != static_cast<std::int64_t>(batch[s].tokens.size())) continue;
        if (!rows.empty() && s != first + rows.size()) head_into_logits(stream, rows, first);
        if (rows.empty()) first = s;
        rows.push_back(rows_of.offsets[p + 1] - 1);
      }
      head_into_logits(stream, rows, first);
    });
    return logits_;
  }

  void feed_all(std::span<const Sequence> batch, const LogitsSink& sink) {
    check(batch);
    const std::int64_t vocab = model_.vocab_size();
    logits_.resize(static_cast<std::size_t>(kLogitsRows * vocab));
    run(batch, [&](const std::vector<Piece>& pass, const Rows& rows_of, const Stream& stream) {
      std::size_t p = 0;
      const std::int64_t total = rows_of.offsets.back();
      for (std::int64_t begin = 0; begin < total; begin += kLogitsRows) {  // sequences share a pass over the head
        std::vector<std::int64_t> rows(static_cast<std::size_t>(std::min(kLogitsRows, total - begin)));
        std::iota(rows.begin(), rows.end(), begin);
        const Matrix<float> out{logits_.data(), static_cast<std::int64_t>(rows.size()), vocab};
        model_.core()->head(stream, rows, arena_, out);
        for (const std::int64_t row : rows) {
          while (row >= rows_of.offsets[p + 1]) ++p;
          sink(pass[p].sequence, rows_of.positions[static_cast<std::size_t>(row)],
               {out.row(row - begin), static_cast<std::size_t>(vocab)});
        }
      }
    });
  }

  const Model& model() const { return model_; }
  double reduction_seconds() const { return reduction_seconds_; }
  std::int64_t scratch_bytes() const { return arena_.bytes() + parked_.bytes() + recorded_.bytes(); }

 private:
  /// Runs a batch of single tokens as a step that was recorded before, if it was; logits go to logits_.
  bool repeat_step(std::span<const Sequence> batch) {
    if (!model_.core()->backend().records()) return false;
    std::vector<TokenId> ids;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::byte*> states;
    std::vector<std::int64_t> seen;
    for (const Sequence& sequence : batch) {
      if (sequence.tokens.size() != 1 || sequence.reduce.reduction != nullptr || sequence.reduce.record != nullptr) {
        return false;
      }
      ids.push_back(sequence.tokens.front());
      offsets.push_back(std::ssize(ids));
      states.push_back(sequence.state->data());
      seen.push_back(sequence.state->tokens());
    }
    const DType ssm = !batch.empty() && batch.front().state->type() == StateType::bf16 ? DType::bf16 : DType::f32;
    const Matrix<float> logits{logits_.data(), std::ssize(ids), model_.vocab_size()};
    if (std::ssize(ids) > options_.window || !recorded_.step({ids, offsets, states, ssm, seen}, logits)) return false;
    for (const Sequence& sequence : batch) sequence.state->set_tokens(sequence.state->tokens() + 1);
    reduction_seconds_ = 0;
    if (options_.progress) options_.progress(std::ssize(ids), std::ssize(ids));
    return true;
  }

  /// Logits of `rows`, which end the sequences from `first` on. Empties `rows`.
  void head_into_logits(const Stream& stream, std::vector<std::int64_t>& rows, std::size_t first) {
    if (rows.empty()) return;
    const std::int64_t vocab = model_.vocab_size();
    float* out = logits_.data() + first * static_cast<std::size_t>(vocab);
    model_.core()->head(stream, rows, arena_, {out, static_cast<std::int64_t>(rows.size()), vocab});
    rows.clear();
  }

  /// Which rows of a pass's stream, behind the last block, belong to whom.
  struct Rows {
    std::vector<std::int64_t> offsets;    // [pieces + 1]
    std::vector<std::int64_t> positions;  // of each row, within its sequence's tokens
  };

  /// Runs the batch pass by pass and hands each pass's stream to `finish`.
  template <class Finish>
  void run(std::span<const Sequence> batch, Finish finish) {
    std::int64_t total = 0;
    for (const Sequence& sequence : batch) total += static_cast<std::int64_t>(sequence.tokens.size());
    ReducedSequences reduced(batch, *model_.core());
    reduction_seconds_ = 0;
    std::int64_t done = 0;
    for (const std::vector<Piece>& pass : plan_passes(batch, options_.window)) {
      std::vector<TokenId> ids;
      std::vector<std::int64_t> offsets{0};
      std::vector<std::byte*> states;
      std::vector<std::int64_t> seen;
      std::vector<std::span<std::byte* const>> kv;
      for (const Piece& piece : pass) {
        const auto tokens = batch[piece.sequence].tokens;
        ids.insert(ids.end(), tokens.begin() + piece.begin, tokens.begin() + piece.end);
        offsets.push_back(static_cast<std::int64_t>(ids.size()));
        State& state = *batch[piece.sequence].state;
        state.reserve(piece.end - piece.begin);
        states.push_back(state.data());
        seen.push_back(state.tokens());
        kv.push_back(state.kv_blocks());
      }
      arena_.reset();
      parked_.reset();
      const std::vector<ReducedPiece> pieces = reduced.pieces(pass);
      std::optional<ReducedPass> reduction;
      if (!pieces.empty()) reduction.emplace(pieces, *model_.core(), arena_, parked_);
      const DType ssm = batch.front().state->type() == StateType::bf16 ? DType::bf16 : DType::f32;
      const Stream stream =
          model_.core()->forward({ids, offsets, states, ssm, seen, kv}, arena_, reduction ? &*reduction : nullptr);
      if (reduction) reduction_seconds_ += reduction->seconds();
      finish(pass, rows_of(pass, reduction ? &reduction->table() : nullptr), stream);
      for (const Piece& piece : pass) {
        State& state = *batch[piece.sequence].state;
        state.set_tokens(state.tokens() + piece.end - piece.begin);
      }
      done += static_cast<std::int64_t>(ids.size());
      if (options_.progress) options_.progress(done, total);
    }
    reduced.finish();
  }

  static Rows rows_of(const std::vector<Piece>& pass, const RowTable* table) {
    Rows rows{{0}, {}};
    for (std::size_t p = 0; p < pass.size(); ++p) {
      std::vector<std::int64_t> positions(static_cast<std::size_t>(pass[p].end - pass[p].begin));
      std::iota(positions.begin(), positions.end(), pass[p].begin);
      if (table != nullptr) positions = table->positions(p);
      rows.positions.insert(rows.positions.end(), positions.begin(), positions.end());
      rows.offsets.push_back(static_cast<std::int64_t>(rows.positions.size()));
    }
    return rows;
  }

  Model model_;
  SessionOptions options_;
  Arena arena_;
  Arena parked_;  // of tokens that reduction took out of the stream
  RecordedSteps recorded_;
  double reduction_seconds_ = 0;
  std::vector<float> logits_;
};

Session::Session(const Model& model, SessionOptions options)
    : impl_(std::make_unique<Impl>(model, std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::span<const float> Session::feed(std::span<const Sequence> batch) {
  return impl_->feed(batch);
}

std::span<const float> Session::feed(State& state, std::span<const TokenId> tokens, const PromptReduction& reduce) {
  const Sequence sequence{&state, tokens, reduce};
  return impl_->feed({&sequence, 1});
}

void Session::feed_all(std::span<const Sequence> batch, const LogitsSink& sink) {
  impl_->feed_all(batch, sink);
}

const Model& Session::model() const {
  return impl_->model();
}

double Session::reduction_seconds() const {
  return impl_->reduction_seconds();
}

std::int64_t Session::scratch_bytes() const {
  return impl_->scratch_bytes();
}

}  // namespace molt
