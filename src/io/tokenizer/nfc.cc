#include "io/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <span>
#include <vector>

#include "base/check.h"
#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

using Codes = std::vector<utf8proc_int32_t>;

// What one code point means to NFC.
enum class Action : unsigned char {
  kStable,   // a starter that NFC leaves as it is, whatever stands before it
  kActive,   // may be reordered, decomposed or composed with what stands before it
  kBarrier,  // later than the reference's tables: left alone, nothing composes across it
};

void append_decomposition(std::uint32_t code_point, Codes& out) {
  utf8proc_int32_t parts[32];  // the longest canonical decomposition has 4
  int boundary = 0;
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts, std::size(parts),
                              static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE), &boundary);
  MOLT_CHECK(count > 0 && count <= static_cast<utf8proc_ssize_t>(std::size(parts)));
  out.insert(out.end(), parts, parts + count);
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Canonical ordering (stable, by class, within each run of non-starters), then composition, in place. utf8proc orders
// by insertion, which is quadratic in a run of marks: hence the sort here.
void order_and_compose(Codes& codes) {
  for (auto at = codes.begin(); at != codes.end();) {
    const auto starter = [](auto c) { return combining_class(c) == 0; };
    at = std::find_if_not(at, codes.end(), starter);
    const auto end = std::find_if(at, codes.end(), starter);
    std::ranges::stable_sort(at, end, {}, combining_class);
    at = end;
  }
  const auto length = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  MOLT_CHECK(length >= 0);
  codes.resize(static_cast<std::size_t>(length));
}

constexpr std::uint32_t kFirstInert = 0x30000;  // from plane 3 on nothing decomposes or combines

std::vector<Action> make_actions() {
  std::vector<Action> actions(kFirstInert, Action::kStable);
  std::vector<std::pair<utf8proc_int32_t, utf8proc_int32_t>> firsts;  // of composites that are stable by themselves
  Codes parts;
  for (std::uint32_t c = 0; c < actions.size(); ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;   // surrogates are no characters
    if (c >= 0xAC00 && c <= 0xD7A3) continue;  // Hangul syllables are stable; their jamo are seen below
    const auto code = static_cast<utf8proc_int32_t>(c);
    if (combining_class(code) != 0) actions[c] = Action::kActive;
    parts.clear();
    append_decomposition(c, parts);
    if (parts.size() == 1 && parts[0] == code) continue;
    const utf8proc_int32_t first = parts.front();
    const utf8proc_int32_t last = parts.back();
    order_and_compose(parts);
    if (parts.size() == 1 && parts[0] == code) {
      actions[static_cast<std::size_t>(last)] = Action::kActive;  // composes with what stands before it
      firsts.emplace_back(code, first);
    } else {
      actions[c] = Action::kActive;
    }
  }
  std::fill(&actions[0x1161], &actions[0x1175] + 1, Action::kActive);  // Hangul vowels
  std::fill(&actions[0x11A8], &actions[0x11C2] + 1, Action::kActive);  // Hangul final consonants
  for (const auto& [code, first] : firsts) {
    if (actions[static_cast<std::size_t>(first)] != Action::kStable) {
      actions[static_cast<std::size_t>(code)] = Action::kActive;
    }
  }
  for (const auto [first, last] : later_than_nfc()) std::fill(&actions[first], &actions[last] + 1, Action::kBarrier);
  return actions;
}

Action action_of(std::uint32_t code_point) {
  static const std::vector<Action> actions = make_actions();
  return code_point < kFirstInert ? actions[code_point] : Action::kStable;
}

// The first active character from `at` on, or text.size(); `before` becomes the start of the character before it.
std::size_t find_active(std::string_view text, std::size_t at, std::size_t& before) {
  while (at < text.size()) {
    if (const std::size_t ascii = utf8::ascii_prefix(text, at)) {
      at += ascii;
      before = at - 1;
      if (at == text.size()) break;
    }
    const auto [code_point, length] = utf8::decode(text, at);
    if (action_of(code_point) == Action::kActive) return at;
    before = at;
    at += length;
  }
  return text.size();
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& buffer) {
  std::size_t start = 0;  // of the character before the active one
  std::size_t active = find_active(text, 0, start);
  if (active == text.size()) return text;
  buffer.clear();
  Codes codes;
  std::size_t copied = 0;
  while (active < text.size()) {
    // A segment: the character before, unless it is a barrier, and all active ones that follow.
    if (start < active && action_of(utf8::decode(text, start).code_point) == Action::kBarrier) start = active;
    buffer.append(text, copied, start - copied);
    codes.clear();
    std::size_t at = start;
    while (at < text.size()) {
      const auto [code_point, length] = utf8::decode(text, at);
      if (at > start && action_of(code_point) != Action::kActive) break;
      append_decomposition(code_point, codes);
      at += length;
    }
    order_and_compose(codes);
    for (const auto code : codes) utf8::append(static_cast<std::uint32_t>(code), buffer);
    copied = start = at;
    active = find_active(text, at, start);
  }
  buffer.append(text, copied);
  return buffer;
}

}  // namespace molt
