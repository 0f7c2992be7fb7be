// WikiText (Merity et al. 2016): how well a model predicts whole articles, by lm-evaluation-harness's rules. An article
// is undone of its separate punctuation, begins with the begin-of-text token and is read in windows of --max-length
// tokens that share nothing but one token: what a window predicts first follows the last token of the window before.
// The last window reaches back so as to be full. Figures count words and bytes of the article as it is published.
//
// What is predicted is never reduced, so only the last windows' contexts can be: this task measures models, not
// reductions (suffix_nll.cc does).
#include <cmath>
#include <filesystem>

#include "base/fail.h"
#include "eval/questions.h"
#include "eval/text.h"

namespace molt::eval {
namespace {

/// Takes white space away behind every `open` and before the `close` that follows it.
void tighten(std::string& text, char open, char close) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t begin = text.find(open, at);
    const std::size_t end = begin == std::string::npos ? begin : text.find(close, begin + 1);
    if (end == std::string::npos) break;
    result.append(text, at, begin + 1 - at);
    result.append(strip(std::string_view(text).substr(begin + 1, end - begin - 1)));
    result += close;
    at = end + 1;
  }
  text = result.append(text, at);
}

/// An article without the marks and spaces that WikiText's tokenization put into it: the harness's steps in its order.
std::string detokenize(std::string text) {
  const auto each = [&](std::initializer_list<std::pair<const char*, const char*>> steps) {
    for (const auto& [from, to] : steps) replace_all(text, from, to);
  };
  each({{"s '", "s'"}});
  // The harness's next expression is meant for years ('90s), but holds literal slashes: it takes "/' 9/" for
  // "/'[0-9]/".
  for (char digit = '0'; digit <= '9'; ++digit) replace_all(text, fmt::format("/' {}/", digit), "/'[0-9]/");
  each({{" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}});
  each({{" : ", ": "}, {" ; ", "; "}, {" . ", ". "}, {" ! ", "! "}, {" ? ", "? "}, {" , ", ", "}});
  tighten(text, '(', ')');
  tighten(text, '[', ']');
  tighten(text, '{', '}');
  tighten(text, '"', '"');
  tighten(text, '\'', '\'');
  each({{"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="}, {" \u00B0 ", "\u00B0"}, {" \n", "\n"}, {"\n ", "\n"}});
  each({{" N ", " 1 "}, {" 's", "'s"}});
  return text;
}

Item make_item(const TaskInput& input, const std::string& page, const std::string& where) {
  check_utf8(page, where, "article");
  const std::vector<TokenId> ids = input.model.tokenizer().encode(detokenize(page));
  if (ids.empty()) fail("{}: the article is empty", where);
  Item item;
  item.requests = windows(ids, input.model.bos(), input.max_length);
  item.words = count_words(page);
  item.bytes = static_cast<std::int64_t>(page.size());
  return item;
}

/// Articles of a text file: as the harness's dataset has them, without the end of the line before the next title.
void read_articles(const TaskInput& input, const std::string& path, Reading& reading) {
  std::vector<Document> documents = read_documents(path);
  for (std::size_t d = 0; d < documents.size(); ++d) {
    if (static_cast<std::int64_t>(reading.items.size()) >= input.limit) return;
    std::string& page = documents[d].text;
    if (d + 1 < documents.size() && page.ends_with('\n')) page.pop_back();
    try {
      reading.items.push_back(make_item(input, page, documents[d].where));
    } catch (const Error& error) {
      reading.problems.add(error.what());
    }
  }
}

Reading read(const TaskInput& input) {
  Reading reading;
  for (const std::string& path : input.files) {
    if (std::filesystem::path(path).extension() != ".jsonl") {
      read_articles(input, path, reading);
      continue;
    }
    read_json_lines(path, reading.problems, [&](const JsonLine& line) {
      if (static_cast<std::int64_t>(reading.items.size()) >= input.limit) return false;
      reading.items.push_back(make_item(input, get_string(line.value, "page", required, line.where), line.where));
      return true;
    });
  }
  for (std::size_t i = 0; i < reading.items.size(); ++i) reading.items[i].cluster = static_cast<std::int64_t>(i);
  return reading;
}

double nll_per_word(const Item& item, std::span<const Score> scores) {
  return nll_sum(scores) / static_cast<double>(item.words);
}
double nll_per_byte(const Item& item, std::span<const Score> scores) {
  return nll_sum(scores) / static_cast<double>(item.bytes);
}
double bits_per_byte(const Item& item, std::span<const Score> scores) {
  return nll_per_byte(item, scores) / std::log(2.0);
}
double words(const Item& item) {
  return static_cast<double>(item.words);
}
double bytes(const Item& item) {
  return static_cast<double>(item.bytes);
}

const Registration<Task> registration{
    "wikitext",
    {"predict whole articles (measures models; nothing that is scored is reduced)",
     {"wikitext2_raw_test.txt", "wiki.test.raw", "wikitext.jsonl"},
     {{"nll_per_word", "-log p of all articles over their words, in nats", false, &nll_per_word, "word_perplexity",
       &words},
      {"nll_per_byte", "the same over their bytes", false, &nll_per_byte, "byte_perplexity", &bytes},
      {"bits_per_byte", "the same in bits", false, &bits_per_byte, "", &bytes}},
     &read}};

}  // namespace
}  // namespace molt::eval
