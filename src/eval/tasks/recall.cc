// Recall: go on with a passage of a document that has just been begun again. A document, a blank line, 32 tokens copied
// from an earlier place; scored are the 32 tokens that follow them there. All that stands before the scored tokens is
// the prompt, and is reduced as a whole. Shows what suffix NLL hides: old content that a reduction threw away.
#include <algorithm>

#include "base/fail.h"
#include "base/random.h"
#include "eval/task.h"

namespace molt::eval {
namespace {

constexpr std::int64_t kCopied = 32;
constexpr std::int64_t kScored = 32;
constexpr std::int64_t kPassage = kCopied + kScored;
constexpr std::int64_t kPassagesPerPart = 2;  // of each document
constexpr double kOldest = 0.3;

/// Where passages begin: kPassagesPerPart starts in [low, high], one drawn from each of as many equal stretches.
std::vector<std::int64_t> draw(std::int64_t low, std::int64_t high, Random& random) {
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < kPassagesPerPart; ++i) {
    const auto edge = [&](std::int64_t k) { return low + (high - low + 1) * k / kPassagesPerPart; };
    const std::int64_t first = edge(i);
    const std::int64_t count = std::max<std::int64_t>(1, edge(i + 1) - first);
    starts.push_back(first + static_cast<std::int64_t>(random.uniform() * static_cast<double>(count)));
  }
  return starts;
}

void add_items(const Excerpt& excerpt, std::span<const TokenId> blank_line, std::int64_t context, Random random,
               std::vector<Item>& items) {
  const std::int64_t prompt = context + static_cast<std::int64_t>(blank_line.size()) + kCopied;
  const auto oldest = static_cast<std::int64_t>(kOldest * static_cast<double>(prompt));
  const auto add = [&](std::int64_t start, const char* part) {
    Request request{excerpt.ids, {}};
    request.context.insert(request.context.end(), blank_line.begin(), blank_line.end());
    const auto passage = excerpt.ids.begin() + start;
    request.context.insert(request.context.end(), passage, passage + kCopied);
    request.continuation.assign(passage + kCopied, passage + kPassage);
    items.push_back({.requests = {std::move(request)},
                     .cluster = excerpt.document,
                     .groups = {part, fmt::format("context {}, {}", context, part)}});
  };
  for (const std::int64_t start : draw(1, oldest - kPassage, random)) add(start, "oldest 30%");
  for (const std::int64_t start : draw(oldest, context - kPassage, random)) add(start, "later");
}

Reading read(const TaskInput& input) {
  const std::vector<std::int64_t> contexts =
      input.contexts.empty() ? std::vector<std::int64_t>{512, 1024} : input.contexts;
  // The shortest document whose oldest 30% hold a passage behind the first token.
  constexpr auto shortest = static_cast<std::int64_t>((kPassage + 2) / kOldest);
  if (contexts.front() < shortest) {
    fail("recall needs contexts of at least {} tokens, not {}: a passage of {} must fit into the oldest 30%", shortest,
         contexts.front(), kPassage);
  }
  const Tokenizer& tokenizer = input.model.tokenizer();
  const std::vector<TokenId> blank_line = tokenizer.encode("\n\n");
  const Documents documents(input.files, tokenizer, input.model.bos());
  std::vector<Item> items;
  for (const std::int64_t context : contexts) {
    std::uint64_t number = 0;
    for (const Excerpt& excerpt : documents.excerpts(context, input.excerpts, input.limit)) {
      Random seeds(input.seed);
      Random of_excerpt(seeds.next() ^ (static_cast<std::uint64_t>(context) << 32U) ^ number++);
      add_items(excerpt, blank_line, context, Random(of_excerpt.next()), items);
    }
  }
  return {.items = std::move(items), .problems = {}, .shortened = 0};
}

const Registration<Task> registration{
    "recall",
    {"go on with a passage of a document that has just been begun again",
     {"heldout.txt", "wikitext2_raw_test.txt"},
     {{"nll", "-log p a token: the mean over the passage's last 32 tokens, in nats", false,
       [](const Item& /*item*/, std::span<const Score> scores) { return nll_mean(scores[0]); }}},
     &read}};

}  // namespace
}  // namespace molt::eval
