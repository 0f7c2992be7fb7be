// WinoGrande (Sakaguchi et al. 2020): which of two names fills a gap. The name belongs to the context, and what is
// scored is the rest of the sentence, the same for both (Trinh & Le 2018). Lines: {"sentence" with _, "option1",
// "option2", "answer": "1" or "2"}.
#include "base/fail.h"
#include "eval/questions.h"
#include "eval/text.h"

namespace molt::eval {
namespace {

Question parse(const JsonLine& line) {
  const auto text = [&](const char* key) { return get_string(line.value, key, required, line.where); };
  const std::string sentence = text("sentence");
  const std::size_t gap = sentence.find('_');
  if (gap == std::string::npos) fail("{}: \"sentence\" has no gap: _ must stand where the name belongs", line.where);
  const std::string rest(strip(std::string_view(sentence).substr(gap + 1)));
  if (rest.empty()) fail("{}: nothing follows the gap _, so there is nothing to score", line.where);
  const std::int64_t answer = get_label(line, "answer");
  if (answer != 1 && answer != 2) fail("{}: \"answer\" must be 1 or 2, not {}", line.where, answer);
  Question question;
  question.answer = static_cast<std::size_t>(answer - 1);
  for (const char* key : {"option1", "option2"}) {
    question.choices.push_back({sentence.substr(0, gap) + text(key), " " + rest, count_characters(rest)});
  }
  return question;
}

const Registration<Task> registration{"winogrande",
                                      {"choose the name that fills a gap",
                                       {"winogrande_xl_dev.jsonl", "winogrande.jsonl"},
                                       {accuracy()},
                                       [](const TaskInput& input) { return read_questions(input, &parse); }}};

}  // namespace
}  // namespace molt::eval
