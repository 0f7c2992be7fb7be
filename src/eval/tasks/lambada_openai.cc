// LAMBADA (Paperno et al. 2016) as OpenAI released its test part: guess the last word of a passage.
#include "base/fail.h"
#include "eval/task.h"

namespace molt::eval {
namespace {

std::vector<Item> read(const TaskInput& input) {
  std::vector<Item> items;
  for (const std::string& path : input.files) {
    for (const JsonLine& line : read_json_lines(path)) {
      if (static_cast<std::int64_t>(items.size()) >= input.limit) return items;
      const std::string text = get_string(line.value, "text", required, line.where);
      const std::size_t space = text.rfind(' ');
      const std::string word = space == std::string::npos ? text : text.substr(space);
      if (word.find_first_not_of(' ') == std::string::npos) {
        fail("{}: \"text\" must end with the word to guess, not with a space or nothing", line.where);
      }
      const std::string context = space == std::string::npos ? "" : text.substr(0, space);
      Item item;
      try {
        item.requests.push_back(
            encode_request(input.model.tokenizer(), context, word, input.model.bos(), input.add_bos));
      } catch (const Error& error) {
        fail("{}: {}", line.where, error.what());
      }
      if (item.requests[0].continuation.empty()) {
        fail("{}: the last word adds no token to the text before it", line.where);
      }
      item.cluster = static_cast<std::int64_t>(items.size());
      items.push_back(std::move(item));
    }
  }
  return items;
}

const Registration<Task> registration{
    "lambada_openai",
    {"guess the last word of a passage (OpenAI's LAMBADA test)",
     {"lambada_test_openai.jsonl", "lambada_openai.jsonl", "lambada_test.jsonl"},
     {{"nll", "-log p of the last word: the sum over its tokens, in nats", false,
       [](const Item& /*item*/, std::span<const Score> scores) { return nll_sum(scores[0]); }, "perplexity"},
      {"acc", "share of items whose every token is the likeliest one", true,
       [](const Item& /*item*/, std::span<const Score> scores) { return scores[0].greedy ? 1.0 : 0.0; }}},
     &read}};

}  // namespace
}  // namespace molt::eval
