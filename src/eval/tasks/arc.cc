// ARC (Clark et al. 2018), the easy and the challenging part: school questions. Lines are either prepared, {"query",
// "choices", "gold"}, or as published, {"question", "choices": {"text": [...], "label": [...]}, "answerKey"}.
#include <algorithm>

#include "base/fail.h"
#include "eval/questions.h"

namespace molt::eval {
namespace {

Question parse(const JsonLine& line) {
  if (std::optional<Question> question = prepared_question(line)) return *question;
  const std::string context =
      fmt::format("Question: {}\nAnswer:", get_string(line.value, "question", required, line.where));
  const auto choices = line.value.find("choices");
  if (choices == line.value.end() || !choices->is_object()) {
    fail("{}: \"choices\" must be an object with the lists \"text\" and \"label\"", line.where);
  }
  const std::vector<std::string> texts = get_strings(*choices, "text", line.where);
  const std::vector<std::string> labels = get_strings(*choices, "label", line.where);
  if (texts.size() != labels.size()) {
    fail("{}: has {} choices, but labels for {}", line.where, texts.size(), labels.size());
  }
  const std::string key = get_string(line.value, "answerKey", "", line.where);
  if (key.empty()) fail("{}: has no label: \"answerKey\" must name the right choice", line.where);
  const auto answer = std::find(labels.begin(), labels.end(), key);
  if (answer == labels.end()) {
    fail("{}: \"answerKey\" is \"{}\", but the choices are labelled {}", line.where, key, fmt::join(labels, ", "));
  }
  return make_question(context, texts, answer - labels.begin(), line.where);
}

Task arc(const std::string& summary, std::vector<std::string> files) {
  return {summary, std::move(files), {accuracy(), normalized_accuracy()}, [](const TaskInput& input) {
            return read_questions(input, &parse);
          }};
}

const Registration<Task> easy{"arc_easy",
                              arc("answer easy school questions", {"arc_easy_test.jsonl", "arc_easy.jsonl"})};
const Registration<Task> challenge{"arc_challenge", arc("answer school questions that word statistics get wrong",
                                                        {"arc_challenge_test.jsonl", "arc_challenge.jsonl"})};

}  // namespace
}  // namespace molt::eval
