// Reduction: token reduction as asked for by a user: a method, how much, where.
//
//   molt::Reduction reduction = molt::Reduction::parse(model, "bypass:flops=0.3");
//   molt::ReductionRecord record;
//   session.feed({{&state, ids, {.reduction = &reduction, .record = &record}}});
//
// A handle: copies share it. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/model.h"

namespace molt {

/// What became of one token, once.
struct TokenFate {
  enum class Kind { pruned, merged, bypass, write_only };
  std::int64_t position;       // in the prompt
  std::int64_t site;           // the block behind which it left; -1: before the first
  Kind kind;                   // merged: on at least one branch
  std::int64_t hidden_into;    // position into which it was merged on the hidden branch; -1: pruned there
  std::int64_t residual_into;  // and on the residual branch
  std::int64_t return_at;      // the block before which it came back; -1: never
};

/// "pruned", "merged", "bypass", "write-only".
std::string_view name_of(TokenFate::Kind kind);

/// What a reduction did to a prompt, and what that saved.
struct ReductionRecord {
  std::int64_t tokens = 0;
  std::vector<TokenFate> fates;       // by site, then by position
  std::vector<std::int64_t> sites;    // behind which tokens left, ascending
  std::vector<std::int64_t> full;     // tokens that ran each layer in full
  std::vector<std::int64_t> writing;  // and those that only wrote
  double flops = 0;                   // of all layers, head left out: spent ...
  double dense_flops = 0;             // ... and what the dense model would have

  /// The cut obtained: 1 - flops / dense_flops.
  double cut() const { return dense_flops > 0 ? 1 - flops / dense_flops : 0; }

  /// Orders fates by site, then by position.
  void sort();

  /// Positions that were in the stream behind `site`, ascending: what the next block got to see.
  std::vector<std::int64_t> survivors(std::int64_t site) const;
};

class Reduction {
 public:
  enum class Scope {
    prompt,    // what is scored or generated behind the prompt runs dense
    sequence,  // every token may be reduced, as the paper evaluates: for comparison only
  };

  /// From "METHOD", "METHOD:key=value,..." or the path of a JSON file with the same keys ("method" among them). Throws
  /// Error that lists what exists for an unknown method, key or value, and for sites that the model does not have.
  static Reduction parse(const Model& model, const std::string& spec);

  /// The spec with everything filled in, as JSON.
  const std::string& text() const;

  const std::string& method() const;

  /// The FLOPs cut that is asked for, 0 .. 1.
  double flops() const;

  Scope scope() const;

  /// Tokens that are reduced together; 0: as the session has it.
  std::int64_t window() const;

  bool belongs_to(const Model& model) const;

  /// What it would do to a prompt of `length` tokens, without running the model: counts are right; which tokens a
  /// method that looks at them takes is not. Throws Error where even the counts depend on what the prompt says (ltmp).
  ReductionRecord rehearse(std::int64_t length) const;

  class Core;
  const Core& core() const { return *core_; }

 private:
  explicit Reduction(std::shared_ptr<const Core> core) : core_(std::move(core)) {}

  std::shared_ptr<const Core> core_;
};

/// The methods that there are, a line each: "name  summary", then their keys with defaults: for --help and errors.
std::string describe_reductions();

/// Loads a shared library whose MethodRegistrations (molt/reducer.h) make methods known; it stays loaded. To be called
/// before other threads parse specs. Throws Error when it cannot be loaded, brings no method, or one whose name is
/// taken.
void load_reduction_plugin(const std::string& path);

}  // namespace molt
