// LAMBADA (Paperno et al. 2016) as OpenAI released its test part: guess the last word of a passage.
#include "base/fail.h"
#include "eval/questions.h"
#include "eval/text.h"

namespace molt::eval {
namespace {

Question parse(const JsonLine& line) {
  const std::string text = get_string(line.value, "text", required, line.where);
  const std::size_t space = text.rfind(' ');
  const std::string word = space == std::string::npos ? text : text.substr(space + 1);
  if (word.empty()) {
    fail("{}: \"text\" must end with the word to guess, not with a space or nothing", line.where);
  }
  return {{{space == std::string::npos ? "" : text.substr(0, space), " " + word, count_characters(word)}}, 0};
}

const Registration<Task> registration{
    "lambada_openai",
    {"guess the last word of a passage (OpenAI's LAMBADA test)",
     {"lambada_test_openai.jsonl", "lambada_openai.jsonl", "lambada_test.jsonl"},
     {{"nll", "-log p of the last word: the sum over its tokens, in nats", false,
       [](const Item& /*item*/, std::span<const Score> scores) { return nll_sum(scores[0]); }, "perplexity"},
      {"acc", "share of items whose every token is the likeliest one", true,
       [](const Item& /*item*/, std::span<const Score> scores) { return scores[0].greedy ? 1.0 : 0.0; }}},
     [](const TaskInput& input) { return read_questions(input, &parse); }}};

}  // namespace
}  // namespace molt::eval
