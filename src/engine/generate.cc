#include "molt/generate.h"

#include <chrono>

#include "base/fail.h"
#include "engine/stop_strings.h"
#include "io/tokenizer/utf8.h"

namespace molt {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Turns tokens into text that may be shown, and shows it.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const GenerateOptions& options, Generation& result)
      : decoder_(tokenizer), stop_(options.stop), options_(options), result_(result) {}

  /// Returns whether generation may go on.
  bool push(TokenId id) { return show(stop_.push(decoder_.push(id))); }

  void finish() {
    show(stop_.push(decoder_.flush()));
    show(stop_.flush());
  }

 private:
  bool show(const std::string& text) {
    result_.text += text;
    if (stop_.found()) result_.reason = StopReason::stop_string;
    if (!cancelled_ && !text.empty() && options_.on_text && !options_.on_text(text)) {
      cancelled_ = true;
      result_.reason = StopReason::cancelled;
    }
    return !cancelled_ && !stop_.found();
  }

  StreamDecoder decoder_;
  StopStrings stop_;
  const GenerateOptions& options_;
  Generation& result_;
  bool cancelled_ = false;
};

}  // namespace

std::string_view name_of(StopReason reason) {
  switch (reason) {
    case StopReason::max_tokens: return "max_tokens";
    case StopReason::eos: return "eos";
    case StopReason::stop_string: return "stop";
    case StopReason::cancelled: return "cancelled";
    case StopReason::context_full: return "context_full";
  }
  return "unknown";
}

Generation generate(Session& session, State& state, std::span<const TokenId> prompt, const GenerateOptions& options,
                    std::span<const TokenId> before) {
  const Model& model = session.model();
  if (options.max_tokens < 0) fail("max-tokens must be 0 or more, not {}", options.max_tokens);
  if (prompt.empty()) fail("nothing to continue: the prompt must hold at least one token");
  for (const std::string& stop : options.stop) {
    // Half a character would leave the other half in the text.
    if (utf8::scan(stop).valid != stop.size()) fail("a stop string is not valid UTF-8; give whole characters");
  }
  Sampler sampler(options.sampling);
  Generation result;
  TextStream text(model.tokenizer(), options, result);
  std::vector<TokenId> seen(before.begin(), before.end());
  seen.insert(seen.end(), prompt.begin(), prompt.end());

  const auto start = std::chrono::steady_clock::now();
  // Whoever goes on from the state needs the logits of its next token: the last token is always left to be fed.
  const auto now = options.max_tokens == 0 ? prompt.first(prompt.size() - 1) : prompt;
  std::span<const float> logits;
  if (!now.empty()) logits = session.feed(state, now, {.reduction = options.reduction, .record = &result.reduction});
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  result.prefill_seconds = seconds_since(start);

  const auto decode_start = std::chrono::steady_clock::now();
  while (static_cast<std::int64_t>(result.ids.size()) < options.max_tokens) {
    const TokenId id = sampler.next(logits, model.usable_tokens(), seen);
    if (options.stop_at_eos && model.ends_text(id)) {
      result.reason = StopReason::eos;
      break;
    }
    result.ids.push_back(id);
    seen.push_back(id);
    if (!text.push(id) || static_cast<std::int64_t>(result.ids.size()) == options.max_tokens) break;
    if (model.max_tokens() > 0 && state.tokens() >= model.max_tokens()) {
      result.reason = StopReason::context_full;
      break;
    }
    logits = session.feed(state, {&id, 1});
  }
  text.finish();
  result.decode_seconds = seconds_since(decode_start);
  return result;
}

}  // namespace molt
