#include "tune/scoring.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/parallel.h"
#include "model/raw_states.h"
#include "tune/whole_prompts.h"

namespace molt {
namespace {

constexpr std::int64_t kRowsAtOnce = 2048;  // of prompts that go through the layers together, at least one
constexpr std::int64_t kHeadRows = 256;     // logits that are held at a time

/// log of the sum of exponentials.
double log_normaliser(const float* logits, std::int64_t count) {
  const float most = *std::max_element(logits, logits + count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - most);
  return most + std::log(sum);
}

/// Probes that go through the layers together.
struct Chunk {
  std::vector<TokenId> prompt_ids;
  std::vector<std::int64_t> prompt_offsets{0};
  std::vector<TokenId> next_ids;  // those that are fed: all but each probe's last one
  std::vector<std::int64_t> next_offsets{0};
  std::vector<TokenId> targets;   // all of them, probe by probe
  std::vector<float> dense;       // [targets, vocab]: logits of the dense model, less their normaliser
  std::vector<Tensor> snapshots;  // of the kept run
  RawStates kept_states;          // that it left

  std::size_t probes() const { return prompt_offsets.size() - 1; }
  std::int64_t targets_of(std::size_t p) const { return next_offsets[p + 1] - next_offsets[p] + 1; }
};

std::vector<Chunk> chunks_of(const std::vector<Probe>& probes) {
  std::vector<Chunk> chunks;
  for (const Probe& probe : probes) {
    const auto rows = static_cast<std::int64_t>(probe.prompt.size());
    if (chunks.empty() || chunks.back().prompt_offsets.back() + rows > kRowsAtOnce) chunks.emplace_back();
    Chunk& chunk = chunks.back();
    chunk.prompt_ids.insert(chunk.prompt_ids.end(), probe.prompt.begin(), probe.prompt.end());
    chunk.prompt_offsets.push_back(static_cast<std::int64_t>(chunk.prompt_ids.size()));
    chunk.next_ids.insert(chunk.next_ids.end(), probe.next.begin(), probe.next.end() - 1);
    chunk.next_offsets.push_back(static_cast<std::int64_t>(chunk.next_ids.size()));
    chunk.targets.insert(chunk.targets.end(), probe.next.begin(), probe.next.end());
  }
  return chunks;
}

}  // namespace

class Trial::Impl {
 public:
  Impl(const ModelCore& model, ProbeSet probes)
      : name(std::move(probes.name)),
        model_(model),
        arena_(model.backend().memory()),
        parked_(model.backend().memory()) {
    chunks_ = chunks_of(probes.probes);
    for (Chunk& chunk : chunks_) {
      prepare_states(chunk, nullptr, 0);
      arena_.reset();
      const Stream stream = model_.forward({chunk.prompt_ids, chunk.prompt_offsets, states_.pointers()}, arena_);
      std::vector<std::int64_t> last;
      for (std::size_t p = 0; p < chunk.probes(); ++p) last.push_back(chunk.prompt_offsets[p + 1] - 1);
      chunk.dense.resize(chunk.targets.size() * static_cast<std::size_t>(vocab()));
      logits(chunk, stream, last, [&](std::int64_t target, const float* row) {
        const auto normaliser = static_cast<float>(log_normaliser(row, vocab()));
        float* out = chunk.dense.data() + target * vocab();
        for (std::int64_t i = 0; i < vocab(); ++i) out[i] = row[i] - normaliser;
      });
    }
  }

  Loss evaluate(const Reduction::Core& reduction, bool keep) {
    return run(reduction, [&](Chunk& chunk, ReducedPass& pass) {
      prepare_states(chunk, nullptr, 0);
      if (keep) pass.keep_snapshots(&chunk.snapshots);
      const Stream stream = model_.forward({chunk.prompt_ids, chunk.prompt_offsets, states_.pointers()}, arena_, &pass);
      if (keep && !chunk.next_ids.empty()) {  // else nothing is fed after these prompts
        chunk.kept_states = RawStates(model_, chunk.probes());
        chunk.kept_states.restart(&states_, model_.state_layout().bytes);
      }
      return stream;
    });
  }

  Loss vary(const Reduction::Core& reduction, std::int64_t layer) {
    return run(reduction, [&](Chunk& chunk, ReducedPass& pass) {
      MOLT_CHECK(layer < std::ssize(chunk.snapshots));  // evaluate() has kept a run
      const Tensor& snapshot = chunk.snapshots[static_cast<std::size_t>(layer)];
      prepare_states(chunk, chunk.kept_states.count() == 0 ? nullptr : &chunk.kept_states, layer);
      Stream stream = pass.resume(layer, snapshot);
      model_.forward_from(layer, {chunk.prompt_ids, chunk.prompt_offsets, states_.pointers()}, stream, arena_, &pass);
      return stream;
    });
  }

  std::int64_t prompt_tokens() const {
    std::int64_t tokens = 0;
    for (const Chunk& chunk : chunks_) tokens += chunk.prompt_offsets.back();
    return tokens;
  }

  std::string name;

 private:
  std::int64_t vocab() const { return model_.config().vocab_size; }

  /// Runs every chunk through `forward` and compares what follows.
  template <class Forward>
  Loss run(const Reduction::Core& reduction, Forward forward) {
    Loss loss;
    double targets = 0;
    double flops = 0;
    double dense_flops = 0;
    for (Chunk& chunk : chunks_) {
      WholePrompts prompts(model_, reduction, chunk.prompt_offsets);
      arena_.reset();
      parked_.reset();
      ReducedPass pass(prompts.pieces(), model_, arena_, parked_);
      const Stream stream = forward(chunk, pass);
      std::vector<std::int64_t> last;
      for (std::size_t p = 0; p < chunk.probes(); ++p) last.push_back(pass.table().live_offsets()[p + 1] - 1);
      compare(chunk, stream, last, loss);
      targets += static_cast<double>(chunk.targets.size());
      for (const ReductionRecord& record : prompts.records()) {
        flops += record.flops;
        dense_flops += record.dense_flops;
      }
    }
    return {loss.kl / targets, loss.nll / targets, 1 - flops / dense_flops};
  }

  /// Adds a chunk's divergences to `loss`.
  void compare(Chunk& chunk, const Stream& stream, const std::vector<std::int64_t>& last, Loss& loss) {
    std::vector<double> kl(chunk.targets.size());
    std::vector<double> nll(chunk.targets.size());
    logits(chunk, stream, last, [&](std::int64_t target, const float* row) {
      const float* dense = chunk.dense.data() + target * vocab();
      const auto normaliser = static_cast<float>(log_normaliser(row, vocab()));
      double sum = 0;
      for (std::int64_t i = 0; i < vocab(); ++i) {
        if (dense[i] > -30.0F) sum += std::exp(dense[i]) * (dense[i] - (row[i] - normaliser));
      }
      const auto index = static_cast<std::size_t>(target);
      kl[index] = sum;
      nll[index] = dense[chunk.targets[index]] - (row[chunk.targets[index]] - normaliser);
    });
    loss.kl += std::accumulate(kl.begin(), kl.end(), 0.0);
    loss.nll += std::accumulate(nll.begin(), nll.end(), 0.0);
  }

  /// Calls body(target, logits) for all targets of a chunk, on several threads: the first of each probe is read off the
  /// prompts' stream at row `last`, the others off a dense run from the states that the prompts left.
  template <class Body>
  void logits(const Chunk& chunk, const Stream& stream, const std::vector<std::int64_t>& last, Body body) {
    std::vector<std::int64_t> first_targets;
    std::vector<std::int64_t> next_targets;
    for (std::size_t p = 0; p < chunk.probes(); ++p) {
      const std::int64_t begin = chunk.next_offsets[p] + static_cast<std::int64_t>(p);
      first_targets.push_back(begin);
      for (std::int64_t i = 1; i < chunk.targets_of(p); ++i) next_targets.push_back(begin + i);
    }
    head(stream, last, first_targets, body);
    if (chunk.next_ids.empty()) return;
    const Stream next = model_.forward({chunk.next_ids, chunk.next_offsets, states_.pointers()}, arena_);
    std::vector<std::int64_t> rows(chunk.next_ids.size());
    std::iota(rows.begin(), rows.end(), 0);
    head(next, rows, next_targets, body);
  }

  template <class Body>
  void head(const Stream& stream, const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& targets,
            Body body) {
    for (std::size_t begin = 0; begin < rows.size(); begin += kHeadRows) {
      const Arena::Scope scope(logits_);
      const auto some = std::span(rows).subspan(begin, std::min<std::size_t>(kHeadRows, rows.size() - begin));
      const Matrix<float> out = logits_.matrix(static_cast<std::int64_t>(some.size()), vocab());
      model_.head(stream, some, arena_, out);
      parallel_for(out.rows, 1, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t i = from; i < to; ++i) body(targets[begin + static_cast<std::size_t>(i)], out.row(i));
      });
    }
  }

  /// The states before a chunk's prompts: empty, or of the layers before `layer` what another run left.
  void prepare_states(const Chunk& chunk, const RawStates* kept, std::int64_t layer) {
    if (states_.count() != chunk.probes()) states_ = RawStates(model_, chunk.probes());
    states_.restart(kept, model_.state_layout().layer_offsets[static_cast<std::size_t>(layer)]);
  }

  const ModelCore& model_;
  std::vector<Chunk> chunks_;
  RawStates states_;  // of the chunk at hand
  Arena arena_;
  Arena parked_;
  Arena logits_;  // on the host
};

Trial::Trial(const ModelCore& model, ProbeSet probes) : impl_(std::make_unique<Impl>(model, std::move(probes))) {}
Trial::~Trial() = default;
Trial::Trial(Trial&&) noexcept = default;

const std::string& Trial::name() const {
  return impl_->name;
}

std::int64_t Trial::prompt_tokens() const {
  return impl_->prompt_tokens();
}

Loss Trial::evaluate(const Reduction::Core& reduction, bool keep) {
  return impl_->evaluate(reduction, keep);
}

Loss Trial::vary(const Reduction::Core& reduction, std::int64_t layer) {
  return impl_->vary(reduction, layer);
}

std::vector<double> first_nll(const ModelCore& model, const std::vector<Probe>& probes) {
  std::vector<double> nll;
  Arena arena(model.backend().memory());
  for (std::size_t begin = 0; begin < probes.size();) {
    std::vector<TokenId> ids;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int64_t> last;
    std::size_t end = begin;
    for (; end < probes.size() && (end == begin || static_cast<std::int64_t>(ids.size()) < kRowsAtOnce); ++end) {
      ids.insert(ids.end(), probes[end].prompt.begin(), probes[end].prompt.end());
      offsets.push_back(static_cast<std::int64_t>(ids.size()));
      last.push_back(offsets.back() - 1);
    }
    const RawStates states(model, end - begin);
    arena.reset();
    const Stream stream = model.forward({ids, offsets, states.pointers()}, arena);
    const Tensor values = Tensor::uninitialized(DType::f32, {std::ssize(last), model.config().vocab_size});
    const Matrix<float> logits = values.matrix();
    model.head(stream, last, arena, logits);
    for (std::int64_t i = 0; i < logits.rows; ++i) {
      nll.push_back(log_normaliser(logits.row(i), logits.cols) -
                    logits(i, probes[begin + static_cast<std::size_t>(i)].next.front()));
    }
    begin = end;
  }
  return nll;
}

}  // namespace molt
