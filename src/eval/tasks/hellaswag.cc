// HellaSwag (Zellers et al. 2019): which of four endings continues a description. Lines are either prepared, {"query",
// "choices", "gold"}, or as published, {"activity_label", "ctx_a", "ctx_b", "endings", "label"}.
#include "eval/questions.h"
#include "eval/text.h"

namespace molt::eval {
namespace {

/// What the harness takes out: marks of the part that comes from WikiHow, and what stands in square brackets on a line.
std::string clean(std::string_view raw) {
  std::string text(strip(raw));
  replace_all(text, " [title]", ". ");
  std::string kept;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '[') {
      const std::size_t end = text.find_first_of("]\n", at);
      if (end != std::string::npos && text[end] == ']') {
        at = end + 1;
        continue;
      }
    }
    kept += text[at++];
  }
  replace_all(kept, "  ", " ");
  return kept;
}

Question parse(const JsonLine& line) {
  if (std::optional<Question> question = prepared_question(line)) return *question;
  const auto text = [&](const char* key) { return get_string(line.value, key, required, line.where); };
  const std::string query = clean(text("activity_label") + ": " + text("ctx_a") + " " + capitalize(text("ctx_b")));
  std::vector<std::string> endings = get_strings(line.value, "endings", line.where);
  for (std::string& ending : endings) ending = clean(ending);
  return make_question(query, endings, get_label(line, "label"), line.where);
}

const Registration<Task> registration{"hellaswag",
                                      {"choose the ending of a description",
                                       {"hellaswag_val.jsonl", "hellaswag.jsonl"},
                                       {accuracy(), normalized_accuracy()},
                                       [](const TaskInput& input) { return read_questions(input, &parse); }}};

}  // namespace
}  // namespace molt::eval
