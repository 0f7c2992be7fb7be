// Session: runs a model over texts, a window at a time.
//
//   molt::Session session(model);
//   molt::State state(model);
//   auto logits = session.feed(state, model.tokenizer().encode("Once upon a time"));
//
// Owns scratch memory; the States belong to the caller. One thread at a time a session; several sessions may share a
// model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "molt/model.h"
#include "molt/reduction.h"
#include "molt/state.h"

namespace molt {

struct SessionOptions {
  /// Tokens of a prompt that go through the layers together. Memory grows with it, results do not depend on it (beyond
  /// rounding).
  std::int64_t window = 2048;

  /// Called after each pass with the tokens done and in all; may throw to cancel, which leaves states as the last
  /// finished pass left them.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// How a sequence's tokens are to be reduced while they are read. What is fed later from the state, is not.
struct PromptReduction {
  const Reduction* reduction = nullptr;  // null: not at all
  ReductionRecord* record = nullptr;     // or null: overwritten with what was done to each token

  /// More of this prompt is still to come, nobody knows how much: then "the oldest" tokens are those of each window,
  /// not of the whole prompt.
  bool more = false;
};

/// One sequence of a batch: tokens that its state has not seen yet.
struct Sequence {
  State* state;
  std::span<const TokenId> tokens;
  PromptReduction reduce = {};
};

class Session {
 public:
  explicit Session(const Model& model, SessionOptions options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Feeds a ragged batch, prompts (reduced or not) and single tokens alike, and returns the logits after each
  /// sequence's last token, [batch size, vocab_size], valid until the next call. Results of a sequence do not depend on
  /// the others. Throws Error for an empty sequence, ids outside of the vocabulary, a sequence longer than
  /// Model::max_tokens(), a state of another model, one that two sequences share or states of several types, before
  /// anything is changed.
  std::span<const float> feed(std::span<const Sequence> batch);

  /// The same for one sequence: [vocab_size].
  std::span<const float> feed(State& state, std::span<const TokenId> tokens, const PromptReduction& reduce = {});

  /// Feeds a ragged batch and hands the logits after every token to `sink`, sequence by index, positions in order: of
  /// reduced sequences those that ran the last layer in full.
  using LogitsSink = std::function<void(std::size_t sequence, std::int64_t position, std::span<const float> logits)>;
  void feed_all(std::span<const Sequence> batch, const LogitsSink& sink);

  const Model& model() const;

  /// Seconds of the last call that went into reduction itself: choosing, merging and moving tokens.
  double reduction_seconds() const;

  /// Bytes of scratch memory held.
  std::int64_t scratch_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace molt
