#include "eval/questions.h"

#include <algorithm>
#include <charconv>

#include "base/fail.h"
#include "eval/text.h"

namespace molt::eval {
namespace {

/// The tokens of a question. `shortened`: set when a context lost its beginning.
Item make_item(const TaskInput& input, const Question& question, bool& shortened) {
  Item item;
  item.answer = question.answer;
  for (const Choice& choice : question.choices) {
    Request request =
        encode_request(input.model.tokenizer(), choice.context, choice.continuation, input.model.bos(), input.add_bos);
    if (request.continuation.empty()) {
      fail("\"{}\" adds no token to the text before it: there is nothing to score", choice.continuation);
    }
    shortened = fit(request, input.max_length) || shortened;
    item.requests.push_back(std::move(request));
    item.characters.push_back(choice.characters);
  }
  return item;
}

/// The choice of the greatest value.
template <class Value>
bool is_right(const Item& item, std::span<const Score> scores, Value value) {
  std::vector<double> values;
  for (std::size_t i = 0; i < scores.size(); ++i) values.push_back(value(i));
  return std::max_element(values.begin(), values.end()) - values.begin() == static_cast<std::ptrdiff_t>(item.answer);
}

}  // namespace

Reading read_questions(const TaskInput& input,
                       const std::function<QuestionParser(const std::string& path)>& parser_of) {
  Reading reading;
  for (const std::string& path : input.files) {
    const QuestionParser parse = parser_of(path);
    read_json_lines(path, reading.problems, [&](const JsonLine& line) {
      if (static_cast<std::int64_t>(reading.items.size()) >= input.limit) return false;
      const Question question = parse(line);
      bool shortened = false;
      Item item;
      try {
        item = make_item(input, question, shortened);
      } catch (const Error& error) {
        fail("{}: {}", line.where, error.what());
      }
      item.cluster = static_cast<std::int64_t>(reading.items.size());
      if (shortened) ++reading.shortened;
      reading.items.push_back(std::move(item));
      return true;
    });
  }
  return reading;
}

Reading read_questions(const TaskInput& input, Question (*parse)(const JsonLine&)) {
  return read_questions(input, [&](const std::string& /*path*/) { return QuestionParser(parse); });
}

Question make_question(const std::string& context, const std::vector<std::string>& choices, std::int64_t answer,
                       const std::string& where) {
  if (choices.size() < 2) fail("{}: has {} choices; a question has two or more", where, choices.size());
  if (answer < 0 || answer >= static_cast<std::int64_t>(choices.size())) {
    fail("{}: the answer {} is none of its {} choices, which count from 0", where, answer, choices.size());
  }
  Question question;
  question.answer = static_cast<std::size_t>(answer);
  for (const std::string& choice : choices) {
    if (choice.empty()) fail("{}: choice {} is empty", where, question.choices.size());
    question.choices.push_back({context, " " + choice, count_characters(choice)});
  }
  return question;
}

std::optional<Question> prepared_question(const JsonLine& line) {
  if (!line.value.contains("query")) return std::nullopt;
  return make_question(get_string(line.value, "query", required, line.where),
                       get_strings(line.value, "choices", line.where), get_label(line, "gold"), line.where);
}

std::int64_t get_label(const JsonLine& line, const std::string& key) {
  const auto it = line.value.find(key);
  const bool absent = it == line.value.end() || it->is_null();
  std::optional<std::int64_t> label;
  if (!absent && it->is_string()) {
    const auto& text = it->get_ref<const std::string&>();
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) label = number;
    if (!label && !text.empty()) fail("{}: \"{}\" must be the answer's number, not {}", line.where, key, describe(*it));
  } else if (!absent) {
    label = integer_of(*it);
    if (!label) fail("{}: \"{}\" must be the answer's number, not {}", line.where, key, describe(*it));
  }
  if (!label || *label < 0) {
    fail("{}: has no label: \"{}\" must be the answer's number (test sets often come without: take the validation set)",
         line.where, key);
  }
  return *label;
}

std::vector<std::string> get_strings(const Json& object, const std::string& key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array()) fail("{}: \"{}\" must be a list of strings", where, key);
  std::vector<std::string> strings;
  for (const Json& value : *it) {
    if (!value.is_string()) fail("{}: \"{}\" must hold strings only, not {}", where, key, describe(value));
    strings.push_back(value.get<std::string>());
  }
  return strings;
}

Metric accuracy() {
  return {"acc", "share of questions whose answer is the choice of the greatest log p", true,
          [](const Item& item, std::span<const Score> scores) {
            return is_right(item, scores, [&](std::size_t i) { return -nll_sum(scores[i]); }) ? 1.0 : 0.0;
          }};
}

Metric normalized_accuracy() {
  return {"acc_norm", "the same, log p divided by the choice's length in characters", true,
          [](const Item& item, std::span<const Score> scores) {
            return is_right(
                       item, scores,
                       [&](std::size_t i) { return -nll_sum(scores[i]) / static_cast<double>(item.characters[i]); })
                       ? 1.0
                       : 0.0;
          }};
}

}  // namespace molt::eval
