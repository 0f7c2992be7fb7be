// Reducer: a token reduction method, the seam that a new method is written against (docs/reduction.md shows how).
//
// While a prompt is read, the engine stops after certain blocks, shows the reducer the tokens of one window of one
// sequence (a Site) and asks what is to become of them (a Plan). The reducer looks and answers; it changes nothing, and
// knows no backend, no batch and no other reducer. The engine carries plans out: it gathers and merges rows, keeps the
// scans' decay right, brings bypassing tokens back, and leaves states from which anything may go on.
//
// A Reducer is immutable after construction and may be asked from several threads. Sites are valid during the call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "molt/types.h"

namespace molt {

class ModelCore;
class WriteMap;

/// What tells tokens apart when the similar ones are sought.
enum class Feature {
  scan_output,   // y: the scan's output with D*x, before the gate: [d_inner]
  block_output,  // h: what the block adds to the residual stream: [d_model]
  stream,        // r + h: the residual stream behind the block: [d_model]
};

/// A window of a prompt: which of its tokens these are.
struct Place {
  std::int64_t begin = 0;              // position in the prompt of the window's first token
  std::int64_t tokens = 0;             // tokens of the window, before any reduction
  std::optional<std::int64_t> length;  // tokens of the whole prompt; nothing while it is still coming in

  /// Tokens among which the oldest are to be found: the whole prompt's, or the window's where its length is unknown.
  std::int64_t scope() const { return length ? *length : tokens; }

  /// Where the window begins within that scope.
  std::int64_t offset() const { return length ? begin : 0; }
};

/// The tokens of one window of one sequence behind one block. Indices are 0 .. tokens()-1, in order of position.
class Site {
 public:
  virtual ~Site() = default;

  /// The block that they just passed, 0-based; -1: none yet (then there is nothing to measure).
  virtual std::int64_t layer() const = 0;

  virtual const Place& place() const = 0;

  std::int64_t tokens() const { return static_cast<std::int64_t>(positions().size()); }

  /// Position in the prompt of each token, ascending.
  virtual std::span<const std::int64_t> positions() const = 0;

  /// 1 where a token must stay: the prompt's first and last, and those that protect_first and protect_last add.
  virtual std::span<const std::uint8_t> is_protected() const = 0;

  /// How many tokens the schedule wants removed here; never more than are unprotected. 0 without a schedule.
  virtual std::int64_t to_remove() const = 0;

  /// Importance of each token: S of "Rethinking Token Reduction for State Space Models" (EMNLP 2024), Eq. 5, and its
  /// variants.
  virtual std::vector<float> importance(Importance metric) const = 0;

  /// The most similar target of each source, by cosine.
  struct Match {
    std::int64_t target;  // token, the first of equals; -1: there is none
    float similarity;     // -infinity: there is none
  };
  /// `sources` and `targets` are tokens, ascending. later_only: a match lies behind its source.
  virtual std::vector<Match> match(Feature feature, std::span<const std::int64_t> sources,
                                   std::span<const std::int64_t> targets, bool later_only) const = 0;

  /// What fetches the matches that were asked for.
  using Matches = std::function<std::vector<Match>()>;
  /// match() that is answered when the answer is fetched, together with what the other sites behind the block have
  /// asked by then: on a device that is much quicker than one by one (Reducer::begin_plan). The answer is valid as long
  /// as the site.
  virtual Matches ask_match(Feature feature, std::vector<std::int64_t> sources, std::vector<std::int64_t> targets,
                            bool later_only) const {
    return [matches = match(feature, sources, targets, later_only)] { return matches; };
  }

  /// Share of each token in what the block's state holds behind the window's last token, averaged over heads (Mamba-2)
  /// or channels (Mamba-1): dt |x| |B| and the decay since, each head's shares summing to 1.
  virtual std::vector<float> contribution() const = 0;

  /// The features themselves, [tokens(), width], row after row; a copy. The width is the result's size / tokens().
  virtual std::vector<float> features(Feature feature) const = 0;
};

/// A layer at which tokens that have left still write to the state: x, B and dt run, the output and the gate do not.
struct Write {
  std::int64_t layer;
  /// From the residual with which they left to what they write. Null: that residual itself takes the layer's own way,
  /// which is exact at the layer behind the site.
  std::shared_ptr<const WriteMap> map;
  bool operator==(const Write&) const = default;
};

/// What becomes of tokens that leave.
struct Course {
  static constexpr std::int64_t kNever = -1;
  std::int64_t return_at = kNever;  // the block before which they take their places again, their residual unchanged
  std::vector<Write> writes = {};   // ascending by layer, before return_at
  bool operator==(const Course&) const = default;
};

/// One token that leaves.
struct Departure {
  static constexpr std::int64_t kPruned = -1;
  std::int64_t token;                    // index at the site
  std::int64_t hidden_into = kPruned;    // the staying token into which it is merged on the hidden branch (h)
  std::int64_t residual_into = kPruned;  // and on the residual branch (r)
  std::size_t course = 0;
};

/// What is to become of a site's tokens. The default lets all of them go on.
struct Plan {
  std::vector<Departure> departures;  // ascending by token; never a protected one, nor a merge's target
  std::vector<Course> courses{Course{}};
  /// Merging takes the mean of a target and all its sources, values as before the site: plain, or with these weights,
  /// one a token of the site.
  std::vector<float> weights;
  /// Whether those that leave leave their decay behind: at layers where they neither run nor write, the next token that
  /// does stands for their steps, too: exp(A * dt * m) with m = 1 + their number.
  bool carry = false;
};

/// Which of a site's measures a reducer asks for. The engine keeps what they are taken from, and only that.
struct Measures {
  bool output = true;        // importance(), match(), features()
  bool contribution = true;  // contribution()
};

class Reducer {
 public:
  virtual ~Reducer() = default;

  /// The blocks behind which to be asked, ascending, from -1 (before the first block) on.
  virtual std::vector<std::int64_t> sites() const = 0;

  /// What plan() may ask its sites for; asking for more is an Error. A method that decides by position alone says
  /// {false, false}, and reading costs less for it.
  virtual Measures measures() const { return {}; }

  virtual Plan plan(const Site& site) const = 0;

  /// The same in two steps: what it returns makes the plan, and is called when the sites of all sequences behind the
  /// block have been begun with. For methods that ask their site for matches first (Site::ask_match) and plan then; the
  /// others plan in the second step, as it stands here.
  virtual std::function<Plan()> begin_plan(const Site& site) const {
    return [this, &site] { return plan(site); };
  }
};

/// What a method may know of the model.
struct ModelFacts {
  std::int64_t layers;
  std::int64_t d_model;
  const ModelCore& core;  // the insides, for molt's own methods
};

/// Where a count-based method removes tokens and how many: after block sites[i], the share ratios[i] of the tokens that
/// got there stays.
struct Schedule {
  std::vector<std::int64_t> sites;
  std::vector<double> ratios;
};

/// One key that a method's spec may hold, with what it may be.
struct OptionInfo {
  enum class Kind { number, integer, choice, numbers, integers, text, path };  // path: in a file, relative to that file
  std::string name;
  Kind kind;
  std::string default_value;  // empty: none
  std::string help;           // one line
  double low = 0;             // number, integer and their lists: the range
  double high = 1;
  std::vector<std::string> choices = {};
};

/// "on" or "off".
OptionInfo flag_option(std::string name, bool default_value, std::string help);
OptionInfo choice_option(std::string name, std::vector<std::string> choices, std::string help);  // first: the default
OptionInfo number_option(std::string name, double default_value, double low, double high, std::string help);
OptionInfo integer_option(std::string name, std::int64_t default_value, std::int64_t low, std::int64_t high,
                          std::string help);

/// A spec's values, checked against the method's OptionInfos; defaults filled in.
class OptionValues {
 public:
  explicit OptionValues(std::map<std::string, std::string, std::less<>> values) : values_(std::move(values)) {}

  /// Whether the key has a value: the user's, or a default.
  bool has(std::string_view name) const { return values_.find(name) != values_.end(); }

  /// The value of a key that has one. (Of a wrong kind or without one: an assertion; the checks came before.)
  const std::string& text(std::string_view name) const;
  double number(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  bool flag(std::string_view name) const;
  std::vector<double> numbers(std::string_view name) const;         // written 1+2+3
  std::vector<std::int64_t> integers(std::string_view name) const;  // written 1+2+3

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

/// What a method is made from.
struct MethodInput {
  const ModelFacts& model;
  const OptionValues& options;
  const Schedule& schedule;  // empty for a method that has none
  double flops;              // the cut that is asked for: 0 .. 1
  bool carry;
  std::int64_t protect_first;  // tokens of the prompt; Site::is_protected() knows those of its window
  std::int64_t protect_last;
};

/// A method as users see it.
struct MethodInfo {
  std::string summary;  // one line, with its source
  /// Whether it removes a count of tokens at each site of a schedule (keys flops, ratio, ramp, sites), or decides for
  /// itself from the cut alone (key flops).
  bool uses_schedule = true;
  bool removes = true;                   // false: it never does, and has none of the keys of those that do
  bool counts_by_content = false;        // how many tokens leave depends on what they say: nothing to rehearse
  std::optional<bool> carry = {};        // the default of the key carry; nothing: the method has no such key
  std::int64_t protect_first = 1;        // the default and the least of the key protect_first
  std::vector<OptionInfo> options = {};  // keys of its own
  std::shared_ptr<const Reducer> (*make)(const MethodInput& input) = nullptr;
};

/// Makes a method known under `name`, for --reduce and Reduction. To be called once, at start-up or while a plugin is
/// loaded (load_reduction_plugin): by a namespace-scope `const molt::MethodRegistration registration{"name", {...}};`.
struct MethodRegistration {
  MethodRegistration(std::string_view name, MethodInfo info);
};

}  // namespace molt
