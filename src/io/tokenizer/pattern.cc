#include "io/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "base/fail.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

// Generous for honest patterns on texts of megabytes; a pattern that needs more is out of hand.
constexpr std::size_t kJitStackStart = 32 << 10;
constexpr std::size_t kJitStackMax = 16 << 20;
constexpr std::uint32_t kMatchLimit = 50'000'000;
constexpr std::uint32_t kHeapLimitKib = 256 << 10;

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

PCRE2_SPTR as_pcre2(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

const pcre2_code* code_of(const std::shared_ptr<const void>& code) {
  return static_cast<const pcre2_code*>(code.get());
}

struct Part {
  Span span;
  bool is_match;
};

// Joins parts as the behavior asks. Empty parts are kept here: they count as neighbours in the reference, too.
std::vector<Span> join(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Span> joined;
  bool previous_match = false;
  const auto extend_or_add = [&](const Part& part, bool extend) {
    if (extend && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, part.span.begin);
      joined.back().end = std::max(joined.back().end, part.span.end);
    } else {
      joined.push_back(part.span);
    }
    previous_match = part.is_match;
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) joined.push_back(part.span);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.is_match) joined.push_back(part.span);
      }
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) extend_or_add(part, part.is_match == previous_match);
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) extend_or_add(part, part.is_match && !previous_match);
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        extend_or_add(*part, part->is_match && !previous_match);
      }
      std::ranges::reverse(joined);
      break;
  }
  return joined;
}

}  // namespace

struct PatternSpace::Handles {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);
  ~Handles() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

PatternSpace::PatternSpace() : handles_(std::make_unique<Handles>()) {
  if (handles_->data == nullptr || handles_->context == nullptr || handles_->stack == nullptr) throw std::bad_alloc();
  pcre2_jit_stack_assign(handles_->context, nullptr, handles_->stack);
  pcre2_set_match_limit(handles_->context, kMatchLimit);
  pcre2_set_heap_limit(handles_->context, kHeapLimitKib);
}

PatternSpace::~PatternSpace() = default;

Pattern::Pattern(const SplitSpec& split)
    : pattern_(split.pattern), where_(split.where), behavior_(split.behavior), invert_(split.invert) {
  if (pattern_.empty()) fail("{}: the pattern is empty", where_);
  const std::string source = split.is_regex ? to_pcre2(split.pattern, where_) : split.pattern;
  const std::uint32_t options = split.is_regex ? PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE : PCRE2_UTF | PCRE2_LITERAL;
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(as_pcre2(source), source.size(), options, &error, &offset, context.get());
  if (code == nullptr) fail("{}: the pattern {} is not valid: {}", where_, pattern_, message_of(error));
  code_ = std::shared_ptr<const void>(code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter does the same
}

bool Pattern::find(std::string_view text, std::size_t from, PatternSpace& space, Span& match) const {
  const auto& [data, context, stack] = *space.handles_;
  int result = pcre2_match(code_of(code_), as_pcre2(text), text.size(), from, PCRE2_NO_UTF_CHECK, data, context);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its state on the heap
    result = pcre2_match(code_of(code_), as_pcre2(text), text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                         context);
  }
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    fail("{}: matching the pattern {} at byte {} of a text of {} bytes: {}", where_, pattern_, from, text.size(),
         message_of(result));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
  match = {bounds[0], bounds[1]};
  return true;
}

std::vector<Span> Pattern::matches(std::string_view text, PatternSpace& space) const {
  std::vector<Span> found;
  Span match{};
  for (std::size_t from = 0; from <= text.size() && find(text, from, space, match);) {
    if (match.begin == match.end && !found.empty() && found.back().end == match.end) {
      from += from < text.size() ? utf8::decode(text, from).length : 1;
      continue;
    }
    found.push_back(match);
    from = match.end;
  }
  return found;
}

void Pattern::split(std::string_view text, PatternSpace& space, std::vector<Span>& pieces) const {
  std::vector<Part> parts;
  std::size_t end = 0;
  for (const Span match : matches(text, space)) {
    if (end != match.begin) parts.push_back({{end, match.begin}, invert_});
    parts.push_back({match, !invert_});
    end = match.end;
  }
  if (end != text.size()) parts.push_back({{end, text.size()}, invert_});
  pieces = join(parts, behavior_);
  std::erase_if(pieces, [](Span span) { return span.begin == span.end; });
}

}  // namespace molt
