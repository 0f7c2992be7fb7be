// What tasks of questions share: a line of JSON becomes one item, a context and continuation for each choice.
//
// Texts become tokens as in lm-evaluation-harness (encode_request), and what is longer than its limit loses its
// beginning, as there. A line that is no question is left out, and the reading says so.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/task.h"

namespace molt::eval {

/// One choice of a question, or all that there is to score of it.
struct Choice {
  std::string context;
  std::string continuation;
  std::int64_t characters;  // of the choice as it is written
};

struct Question {
  std::vector<Choice> choices;
  std::size_t answer = 0;  // the right one's index
};

/// Understands a line; throws Error naming it when it is no question.
using QuestionParser = std::function<Question(const JsonLine&)>;

/// Reads the files of `input`, each with a parser of its own that `parser_of` makes from its path.
Reading read_questions(const TaskInput& input, const std::function<QuestionParser(const std::string& path)>& parser_of);

/// The same where a line says all.
Reading read_questions(const TaskInput& input, Question (*parse)(const JsonLine&));

/// A question whose choices all follow one context, as " " + choice. Throws Error naming `where` when there are fewer
/// than two, one is empty, or `answer` is none of them.
Question make_question(const std::string& context, const std::vector<std::string>& choices, std::int64_t answer,
                       const std::string& where);

/// The question on a line of the prepared form {"query": context, "choices": [...], "gold": index}; nothing when it has
/// no "query".
std::optional<Question> prepared_question(const JsonLine& line);

/// The right answer's number under `key`: an integer, or a string that spells one. Throws Error when there is none, or
/// a negative one, by which test sets say that they keep their answers to themselves.
std::int64_t get_label(const JsonLine& line, const std::string& key);

/// The strings under `key` of an object.
std::vector<std::string> get_strings(const Json& object, const std::string& key, const std::string& where);

/// acc: the answer is the choice of the greatest log p. Of equal ones the first counts, as in NumPy's argmax.
Metric accuracy();

/// acc_norm: of the greatest log p per character of the choice. (Bytes in place of characters are what the harness
/// calls acc_bytes.)
Metric normalized_accuracy();

}  // namespace molt::eval
