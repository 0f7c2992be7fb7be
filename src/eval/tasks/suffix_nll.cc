// Suffix NLL: what a document's beginning is still worth for the 64 tokens behind it. The sharpest measure of what a
// reduction loses, and blind to old content that nothing asks for (recall.cc).
#include "base/fail.h"
#include "eval/task.h"

namespace molt::eval {
namespace {

constexpr std::int64_t kScored = 64;

Reading read(const TaskInput& input) {
  const std::vector<std::int64_t> contexts =
      input.contexts.empty() ? std::vector<std::int64_t>{512, 1024, 2048} : input.contexts;
  const Documents documents(input.files, input.model.tokenizer(), input.model.bos());
  std::vector<Item> items;
  for (const std::int64_t context : contexts) {
    for (const Excerpt& excerpt : documents.excerpts(context + kScored, input.excerpts, input.limit)) {
      const auto split = excerpt.ids.begin() + context;
      items.push_back({.requests = {{{excerpt.ids.begin(), split}, {split, excerpt.ids.end()}}},
                       .cluster = excerpt.document,
                       .groups = {fmt::format("context {}", context)}});
    }
  }
  return {.items = std::move(items), .problems = {}, .shortened = 0};
}

const Registration<Task> registration{
    "suffix_nll",
    {"predict the 64 tokens behind the first 512, 1024 and 2048 of a document",
     {"heldout.txt", "wikitext2_raw_test.txt"},
     {{"nll", "-log p a token: the mean over the 64 tokens behind the context, in nats", false,
       [](const Item& /*item*/, std::span<const Score> scores) { return nll_mean(scores[0]); }}},
     &read}};

}  // namespace
}  // namespace molt::eval
