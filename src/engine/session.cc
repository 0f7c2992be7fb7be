// Session: cuts prompts into windows, packs windows of several sequences into passes, runs them.
#include "molt/session.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/fail.h"
#include "model/model.h"

namespace molt {
namespace {

constexpr std::int64_t kLogitsRows = 64;  // rows of logits that feed_all() holds at a time

/// A run of one sequence's tokens that goes through the layers in one pass.
struct Piece {
  std::size_t sequence;
  std::int64_t begin;  // within the sequence's tokens
  std::int64_t end;
};

/// The passes that a batch needs. Every sequence is cut at multiples of the window, whatever else is in the batch; a
/// pass holds as many pieces as fit in a window's rows, at most one of each sequence, in the sequences' order.
std::vector<std::vector<Piece>> plan_passes(std::span<const Sequence> batch, std::int64_t window) {
  std::vector<std::vector<Piece>> passes;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const auto length = static_cast<std::int64_t>(batch[s].tokens.size());
    for (std::int64_t begin = 0; begin < length; begin += window) {
      const Piece piece{s, begin, std::min(length, begin + window)};
      const auto rows = [](const std::vector<Piece>& pass) {
        std::int64_t sum = 0;
        for (const Piece& p : pass) sum += p.end - p.begin;
        return sum;
      };
      const bool fits = !passes.empty() && passes.back().back().sequence != s &&
                        rows(passes.back()) + (piece.end - piece.begin) <= window;
      if (!fits) passes.emplace_back();
      passes.back().push_back(piece);
    }
  }
  return passes;
}

}  // namespace

class Session::Impl {
 public:
  Impl(const Model& model, SessionOptions options) : model_(model), options_(std::move(options)) {
    if (options_.window < 1) fail("the window must be at least 1 token, not {}", options_.window);
  }

  void check(std::span<const Sequence> batch) const {
    const std::int64_t vocab = model_.vocab_size();
    std::set<const State*> states;
    for (std::size_t s = 0; s < batch.size(); ++s) {
      if (batch[s].tokens.empty()) fail("sequence {} of the batch is empty; feed at least one token", s);
      if (!batch[s].state->belongs_to(model_)) fail("the state of sequence {} belongs to another model", s);
      if (!states.insert(batch[s].state).second) {
        fail("sequence {} of the batch has the state of another one; copy it first", s);
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
    run(batch, [&](const std::vector<Piece>& pass, Offsets offsets, const Stream& stream) {
      // Logits are wanted where a sequence ends. Sequences that end beside each other go through the head together.
      std::vector<std::int64_t> rows;
      std::size_t first = 0;
      for (std::size_t p = 0; p < pass.size(); ++p) {
        const std::size_t s = pass[p].sequence;
        if (pass[p].end != static_cast<std::int64_t>(batch[s].tokens.size())) continue;
        if (!rows.empty() && s != first + rows.size()) head_into_logits(stream, rows, first);
        if (rows.empty()) first = s;
        rows.push_back(offsets[p + 1] - 1);
      }
      head_into_logits(stream, rows, first);
    });
    return logits_;
  }

  void feed_all(std::span<const Sequence> batch, const LogitsSink& sink) {
    check(batch);
    const std::int64_t vocab = model_.vocab_size();
    Tensor logits = Tensor::uninitialized(DType::f32, {kLogitsRows, vocab});
    run(batch, [&](const std::vector<Piece>& pass, Offsets offsets, const Stream& stream) {
      for (std::size_t p = 0; p < pass.size(); ++p) {
        for (std::int64_t begin = offsets[p]; begin < offsets[p + 1]; begin += kLogitsRows) {
          std::vector<std::int64_t> rows(static_cast<std::size_t>(std::min(kLogitsRows, offsets[p + 1] - begin)));
          std::iota(rows.begin(), rows.end(), begin);
          const Matrix<float> out = logits.matrix().row_range(0, static_cast<std::int64_t>(rows.size()));
          model_.core()->head(stream, rows, arena_, out);
          for (std::int64_t i = 0; i < out.rows; ++i) {
            sink(pass[p].sequence, pass[p].begin + begin - offsets[p] + i,
                 {out.row(i), static_cast<std::size_t>(vocab)});
          }
        }
      }
    });
  }

  const Model& model() const { return model_; }
  std::int64_t scratch_bytes() const { return arena_.bytes(); }

 private:
  /// Logits of `rows`, which end the sequences from `first` on. Empties `rows`.
  void head_into_logits(const Stream& stream, std::vector<std::int64_t>& rows, std::size_t first) {
    if (rows.empty()) return;
    const std::int64_t vocab = model_.vocab_size();
    float* out = logits_.data() + first * static_cast<std::size_t>(vocab);
    model_.core()->head(stream, rows, arena_, {out, static_cast<std::int64_t>(rows.size()), vocab});
    rows.clear();
  }

  /// Runs the batch pass by pass and hands each pass's stream to `finish`.
  template <class Finish>
  void run(std::span<const Sequence> batch, Finish finish) {
    std::int64_t total = 0;
    for (const Sequence& sequence : batch) total += static_cast<std::int64_t>(sequence.tokens.size());
    std::int64_t done = 0;
    for (const std::vector<Piece>& pass : plan_passes(batch, options_.window)) {
      std::vector<TokenId> ids;
      std::vector<std::int64_t> offsets{0};
      std::vector<float*> states;
      for (const Piece& piece : pass) {
        const auto tokens = batch[piece.sequence].tokens;
        ids.insert(ids.end(), tokens.begin() + piece.begin, tokens.begin() + piece.end);
        offsets.push_back(static_cast<std::int64_t>(ids.size()));
        states.push_back(batch[piece.sequence].state->data());
      }
      arena_.reset();
      finish(pass, Offsets(offsets), model_.core()->forward({ids, offsets, states}, arena_));
      for (const Piece& piece : pass) {
        State& state = *batch[piece.sequence].state;
        state.set_tokens(state.tokens() + piece.end - piece.begin);
      }
      done += static_cast<std::int64_t>(ids.size());
      if (options_.progress) options_.progress(done, total);
    }
  }

  Model model_;
  SessionOptions options_;
  Arena arena_;
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

std::span<const float> Session::feed(State& state, std::span<const TokenId> tokens) {
  const Sequence sequence{&state, tokens};
  return impl_->feed({&sequence, 1});
}

void Session::feed_all(std::span<const Sequence> batch, const LogitsSink& sink) {
  impl_->feed_all(batch, sink);
}

const Model& Session::model() const {
  return impl_->model();
}

std::int64_t Session::scratch_bytes() const {
  return impl_->scratch_bytes();
}

}  // namespace molt
