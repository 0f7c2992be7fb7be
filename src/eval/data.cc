#include "eval/data.h"

#include <algorithm>

#include "base/fail.h"
#include "base/mmap_file.h"
#include "eval/text.h"
#include "io/tokenizer/utf8.h"

namespace molt::eval {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr std::size_t kProblemsShown = 5;

std::string read_whole(const std::string& path) {
  const auto file = MmapFile::open(path);
  const auto bytes = file->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Calls take(line number, line, where it begins) for each line, the first being 1, until it returns false; lines come
/// without their ends.
template <class Take>
void for_each_line(std::string_view text, Take take) {
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!take(++number, line, begin)) return;
    begin = end + 1;
  }
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/// " = Title = ", not " = = Section = = ".
bool is_title(std::string_view line) {
  return line.size() > 6 && line.starts_with(" = ") && line.ends_with(" = ") && line[3] != '=';
}

}  // namespace

Request encode_request(const Tokenizer& tokenizer, std::string context, std::string continuation, TokenId bos,
                       bool add_bos) {
  if (utf8::scan(context).valid == context.size()) {  // what is no UTF-8 is the tokenizer's to refuse
    const std::size_t spaces = trailing_space(context);
    continuation.insert(0, context, context.size() - spaces, spaces);
    context.resize(context.size() - spaces);
  }
  Request request;
  request.context = tokenizer.encode(context);
  const std::vector<TokenId> whole = tokenizer.encode(context + continuation);
  const auto own = static_cast<std::ptrdiff_t>(std::min(request.context.size(), whole.size()));
  request.continuation.assign(whole.begin() + own, whole.end());
  if (add_bos || request.context.empty()) request.context.insert(request.context.begin(), bos);
  return request;
}

bool fit(Request& request, std::int64_t max_length) {
  const auto scored = static_cast<std::int64_t>(request.continuation.size());
  if (scored > max_length) {
    fail("what is to be scored has {} tokens, more than the {} that an item may have (--max-length)", scored,
         max_length);
  }
  const std::int64_t excess = static_cast<std::int64_t>(request.context.size()) + scored - (max_length + 1);
  if (excess <= 0) return false;
  request.context.erase(request.context.begin(), request.context.begin() + excess);
  return true;
}

std::vector<Request> windows(const std::vector<TokenId>& ids, TokenId bos, std::int64_t length) {
  const auto count = static_cast<std::int64_t>(ids.size());
  const std::int64_t first = std::min(length, count);
  std::vector<Request> requests{{{bos}, {ids.begin(), ids.begin() + first}}};
  for (std::int64_t done = first; done < count;) {
    const std::int64_t end = std::min(count, done + length);
    // A window of `length` tokens predicts each one's successor; what it predicts begins at `done`.
    requests.push_back(
        {{ids.begin() + (end - length - 1), ids.begin() + done}, {ids.begin() + done, ids.begin() + end}});
    done = end;
  }
  return requests;
}

void Problems::add(std::string problem) {
  if (++count_ <= kProblemsShown) first_.push_back(std::move(problem));
}

std::string Problems::text(const std::string& indent) const {
  std::string text;
  for (const std::string& problem : first_) text += fmt::format("{}{}{}", text.empty() ? "" : "\n", indent, problem);
  if (count_ > first_.size()) text += fmt::format("\n{}and {} more", indent, count_ - first_.size());
  return text;
}

void read_json_lines(const std::string& path, Problems& problems, const std::function<bool(const JsonLine&)>& take) {
  const std::string text = read_whole(path);
  std::size_t index = 0;
  for_each_line(text, [&](std::int64_t number, std::string_view line, std::size_t /*begin*/) {
    if (is_blank(line)) return true;
    const std::string where = fmt::format("{}:{}", path, number);
    try {
      JsonLine parsed{where, index++, parse_json(line, where)};
      if (parsed.value.is_object()) return take(parsed);
      fail("{}: must be a JSON object, not {}", where, describe(parsed.value));
    } catch (const Error& error) {
      problems.add(error.what());
    }
    return true;
  });
}

void check_utf8(std::string_view text, std::string_view where, std::string_view kind) {
  if (const std::size_t valid = utf8::scan(text).valid; valid != text.size()) {
    fail("{}: byte {} of the {} that begins here is no UTF-8", where, valid, kind);
  }
}

std::vector<Document> read_documents(const std::string& path) {
  const std::string text = read_whole(path);
  std::vector<std::size_t> begins{0};
  std::size_t skip = 0;  // bytes of a separator
  if (text.find(kSeparator) != std::string::npos) {
    skip = kSeparator.size();
    for (std::size_t at = 0; (at = text.find(kSeparator, at)) != std::string::npos; at += skip) {
      begins.push_back(at + skip);
    }
  } else {
    for_each_line(text, [&](std::int64_t /*number*/, std::string_view line, std::size_t begin) {
      if (is_title(line)) begins.push_back(begin);
      return true;
    });
  }

  std::vector<Document> documents;
  std::int64_t line = 1;
  for (std::size_t d = 0; d < begins.size(); ++d) {
    const std::size_t end = d + 1 < begins.size() ? begins[d + 1] - skip : text.size();
    const std::string_view part = std::string_view(text).substr(begins[d], end - begins[d]);
    if (!is_blank(part)) documents.push_back({fmt::format("{}:{}", path, line), std::string(part)});
    line += std::count(part.begin(), part.end(), '\n');
  }
  if (documents.empty()) fail("{}: holds no document", path);
  return documents;
}

Documents::Documents(std::span<const std::string> paths, const Tokenizer& tokenizer, TokenId bos)
    : paths_(paths.begin(), paths.end()), bos_(bos) {
  for (const std::string& path : paths) {
    for (const Document& document : read_documents(path)) {
      try {
        documents_.push_back(tokenizer.encode(document.text));
      } catch (const Error& error) {
        fail("{}: the document that begins here: {}", document.where, error.what());
      }
    }
  }
}

std::vector<Excerpt> Documents::excerpts(std::int64_t length, std::int64_t per_document, std::int64_t limit) const {
  const std::int64_t own = length - 1;  // tokens of the document behind the `bos` in front
  std::vector<Excerpt> excerpts;
  std::int64_t longest = 0;
  bool more = true;
  for (std::int64_t round = 0; round < per_document && more; ++round) {
    more = false;
    for (std::size_t d = 0; d < documents_.size(); ++d) {
      const std::vector<TokenId>& ids = documents_[d];
      const auto size = static_cast<std::int64_t>(ids.size());
      longest = std::max(longest, size + 1);
      if ((round + 1) * own > size) continue;
      if (static_cast<std::int64_t>(excerpts.size()) >= limit) return excerpts;
      more = true;
      Excerpt& excerpt = excerpts.emplace_back(Excerpt{static_cast<std::int64_t>(d), {bos_}});
      excerpt.ids.insert(excerpt.ids.end(), ids.begin() + round * own, ids.begin() + (round + 1) * own);
    }
  }
  if (excerpts.empty()) {
    fail("{}: no document of at least {} tokens (the longest of {} has {}); shorter --contexts may fit",
         fmt::join(paths_, ", "), length, documents_.size(), longest);
  }
  return excerpts;
}

}  // namespace molt::eval
