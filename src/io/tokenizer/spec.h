// TokenizerSpec: what a tokenizer.json asks for, checked, in molt's terms.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/types.h"

namespace molt {

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool special = false;
  bool normalized = true;    // found in the normalized text, not in the text as given
  bool lstrip = false;       // takes along the white space before it
  bool rstrip = false;       // and after it
  bool single_word = false;  // only where no word character touches it
};

enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A Split pre-tokenizer.
struct SplitSpec {
  std::string pattern;
  bool is_regex = true;  // or a plain string
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the text between the matches plays their part
  std::string where;    // its place in the file, for errors
};

struct TokenizerSpec {
  bool nfc = false;
  std::vector<SplitSpec> splits;  // before ByteLevel, in order
  bool add_prefix_space = false;  // ByteLevel's
  bool use_regex = true;
  bool ignore_merges = false;
  std::string unknown;                                 // the token of bytes that have none; empty: they are left out
  bool fuse_unknown = false;                           // one token for a run of them
  std::vector<std::pair<std::string, TokenId>> vocab;  // as spelled in the file, in the byte alphabet
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added;
};

/// Reads the text of a tokenizer.json; `where` names it in errors. Throws Error for what is malformed and, by name, for
/// what molt does not implement. Whether ids and merges fit together is checked by Tokenizer, not here.
TokenizerSpec read_tokenizer_spec(std::string_view json, std::string_view where);

}  // namespace molt
