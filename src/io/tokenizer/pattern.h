// Pattern: the regular expression (or plain string) of a Split pre-tokenizer, matched by PCRE2 with JIT.
//
// The patterns are written for Oniguruma. What both engines read alike is passed on, what they read differently is
// translated (\s, \d, \v, \u....) or refused by name (\w, \b, nested classes, inline options other than i, ...).
// \p{L}, \p{N}, \p{Nd} and \d are those of Unicode 16.0; other properties, and negated ones within a class, follow the
// installed PCRE2 (14.0 in 10.42), so that newer characters may be split otherwise than in the reference. The GPT-2
// pattern does not come here but to word_splitter.h. Thread-safety: a Pattern is immutable; a PatternSpace belongs to
// one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/spec.h"

namespace molt {

struct Span {
  std::size_t begin;
  std::size_t end;
  friend bool operator==(const Span&, const Span&) = default;
};

/// Working space of matching.
class PatternSpace {
 public:
  PatternSpace();
  ~PatternSpace();
  PatternSpace(const PatternSpace&) = delete;
  PatternSpace& operator=(const PatternSpace&) = delete;

 private:
  friend class Pattern;
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

class Pattern {
 public:
  /// Compiles; throws Error naming `split.where` when that fails.
  explicit Pattern(const SplitSpec& split);

  /// The pieces that the pre-tokenizer cuts `text` (valid UTF-8) into, in order, none empty, replacing those in
  /// `pieces`. Throws Error when the pattern backtracks beyond all limits on this text.
  void split(std::string_view text, PatternSpace& space, std::vector<Span>& pieces) const;

 private:
  /// All matches from left to right; an empty one does not follow the end of another.
  std::vector<Span> matches(std::string_view text, PatternSpace& space) const;
  bool find(std::string_view text, std::size_t from, PatternSpace& space, Span& match) const;

  std::shared_ptr<const void> code_;
  std::string pattern_;
  std::string where_;
  SplitBehavior behavior_;
  bool invert_;
};

/// `pattern`, written for Oniguruma's Ruby syntax, as PCRE2 writes it. Throws Error naming `where` and the construct.
std::string to_pcre2(std::string_view pattern, std::string_view where);

}  // namespace molt
