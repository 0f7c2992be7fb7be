// What tasks read: files of documents, files of JSON lines, and how a context and a continuation become tokens.
//
// Thread-safety: free functions without state. Every Error names the file and the line.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_file.h"
#include "molt/tokenizer.h"

namespace molt::eval {

/// A context and a continuation, encoded.
struct Request {
  std::vector<TokenId> context;
  std::vector<TokenId> continuation;
};

/// Encodes as lm-evaluation-harness does: both together; the continuation's ids are those after the context's own.
/// White space at the context's end goes to the continuation first. An empty context becomes `bos`; so does, with
/// `add_bos`, the beginning of any other. The continuation may come out empty.
Request encode_request(const Tokenizer& tokenizer, std::string context, std::string continuation, TokenId bos,
                       bool add_bos);

/// Shortens a request of more than `max_length` + 1 tokens to as many, as lm-evaluation-harness does (the last token is
/// scored, but never read): the context loses its beginning. Returns whether it did. Throws Error when the continuation
/// alone has more than `max_length`.
bool fit(Request& request, std::int64_t max_length);

/// Running text `ids` in windows of `length` tokens, each token predicted once, the first behind `bos`: of the last
/// window as many tokens come again as it lacks. One request where all fit.
std::vector<Request> windows(const std::vector<TokenId>& ids, TokenId bos, std::int64_t length);

/// Lines that cannot be used, while the others of their files are.
class Problems {
 public:
  void add(std::string problem);

  std::size_t count() const { return count_; }

  /// The first ones, a line each, and how many more there are. `indent` before each line.
  std::string text(const std::string& indent = "") const;

 private:
  std::size_t count_ = 0;
  std::vector<std::string> first_;
};

/// One line of a JSONL file.
struct JsonLine {
  std::string where;  // "FILE:LINE"
  std::size_t index;  // among those of its file that are not blank, the first being 0
  Json value;         // an object
};

/// Hands the lines of a JSONL file to `take`, blank ones left out, until it returns false. A line that is no JSON
/// object, and one for which `take` throws Error, is a problem, and reading goes on with the next.
void read_json_lines(const std::string& path, Problems& problems, const std::function<bool(const JsonLine&)>& take);

/// A text to be read from its beginning.
struct Document {
  std::string where;  // "FILE:LINE"
  std::string text;
};

/// The documents of a text file, empty ones left out: separated by <|endoftext|>; or, in a file without any, each from
/// one of WikiText's headings of the first level (" = Title = ") to the next; or else the whole file.
std::vector<Document> read_documents(const std::string& path);

/// Throws Error when `text` is no UTF-8. It is a `kind` ("document", "article") that begins at `where`.
void check_utf8(std::string_view text, std::string_view where, std::string_view kind);

/// A document's tokens, or a part of them.
struct Excerpt {
  std::int64_t document;     // by number, over all files
  std::vector<TokenId> ids;  // the first is `bos`
};

/// Tokenized documents. Tasks cut excerpts from them.
class Documents {
 public:
  /// Reads all of `paths`.
  Documents(std::span<const std::string> paths, const Tokenizer& tokenizer, TokenId bos);

  /// Excerpts of `length` tokens, `bos` in front included: first one of each document that is long enough, its
  /// beginning, then the second of each that has two, disjoint from the first, and so on. At most `per_document` of
  /// each and `limit` in all. Throws Error when there is none.
  std::vector<Excerpt> excerpts(std::int64_t length, std::int64_t per_document, std::int64_t limit) const;

 private:
  std::vector<std::string> paths_;
  std::vector<std::vector<TokenId>> documents_;
  TokenId bos_;
};

}  // namespace molt::eval
