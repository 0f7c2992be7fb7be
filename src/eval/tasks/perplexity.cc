// Perplexity: how well a model predicts whole documents of plain text, each read in one go from the begin-of-text token
// on, however long it is: the state carries all of it. (Models that are made for texts up to a length read longer ones
// in windows of it, as wikitext does.) Counted in the model's own tokens, so comparable between forms
// of one model (rounded, pruned), and in bytes, comparable between models.
//
// What is predicted is never reduced: this task measures models, not reductions (suffix_nll.cc does).
#include <cmath>
#include <filesystem>

#include "base/fail.h"
#include "eval/task.h"

namespace molt::eval {
namespace {

Item make_item(const TaskInput& input, const Document& document) {
  const std::string& text = document.text;
  check_utf8(text, document.where, "document");
  Item item;
  const std::vector<TokenId> ids = input.model.tokenizer().encode(text);
  if (ids.empty()) fail("{}: the document is empty", document.where);
  const std::int64_t most = input.model.max_tokens();
  item.requests = windows(ids, input.model.bos(), most > 0 ? most : std::ssize(ids));
  item.bytes = static_cast<std::int64_t>(text.size());
  return item;
}

Reading read(const TaskInput& input) {
  Reading reading;
  for (const std::string& path : input.files) {
    std::int64_t taken = 0;
    for (const Document& document : read_documents(path)) {
      if (taken++ >= input.limit) break;
      try {
        Item item = make_item(input, document);
        item.cluster = static_cast<std::int64_t>(reading.items.size());
        if (input.files.size() > 1) item.groups = {std::filesystem::path(path).filename().string()};
        reading.items.push_back(std::move(item));
      } catch (const Error& error) {
        reading.problems.add(error.what());
      }
    }
  }
  return reading;
}

double tokens(const Item& item) {
  double count = 0;
  for (const Request& request : item.requests) count += static_cast<double>(request.continuation.size());
  return count;
}
double bytes(const Item& item) {
  return static_cast<double>(item.bytes);
}

const Registration<Task> registration{
    "perplexity",
    {"predict whole documents of plain text (measures models; nothing that is scored is reduced)",
     {"heldout.txt", "wikitext2_raw_test.txt"},
     {{"nll_per_token", "-log p of all documents over their tokens, in nats", false,
       [](const Item& item, std::span<const Score> scores) { return nll_sum(scores) / tokens(item); }, "perplexity",
       &tokens},
      {"bits_per_byte", "the same in bits, over their bytes", false,
       [](const Item& item, std::span<const Score> scores) { return nll_sum(scores) / bytes(item) / std::log(2.0); },
       "", &bytes}},
     &read}};

}  // namespace
}  // namespace molt::eval
