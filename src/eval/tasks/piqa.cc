// PIQA (Bisk et al. 2020): which of two ways reaches a goal. Lines: {"goal", "sol1", "sol2", "label"}; as published the
// labels come in a file of their own, one a line: labels of FOLDER/valid.jsonl in FOLDER/valid-labels.lst.
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/fail.h"
#include "eval/questions.h"

namespace molt::eval {
namespace {

namespace fs = std::filesystem;

std::string labels_path(const std::string& path) {
  return (fs::path(path).parent_path() / fs::path(path).stem()).string() + "-labels.lst";
}

/// Lines of a file of labels; nothing where there is no such file.
std::optional<std::vector<std::string>> read_labels(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  std::ifstream file(path);
  std::vector<std::string> labels;
  for (std::string line; std::getline(file, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    labels.push_back(line);
  }
  if (!file.eof()) fail("{}: cannot be read", path);
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  return labels;
}

std::int64_t label_of(const JsonLine& line, const std::string& path,
                      const std::optional<std::vector<std::string>>& labels) {
  if (line.value.contains("label")) return get_label(line, "label");
  if (!labels) {
    fail("{}: has no label: neither \"label\" on its line nor a file {} with one a line", line.where,
         labels_path(path));
  }
  if (line.index >= labels->size()) {
    fail("{}: has no label: {} ends before it, with {} labels", line.where, labels_path(path), labels->size());
  }
  const std::string& label = (*labels)[line.index];
  if (label != "0" && label != "1") {
    fail("{}: its label, {}:{}, must be 0 or 1, not '{}'", line.where, labels_path(path), line.index + 1, label);
  }
  return label == "1" ? 1 : 0;
}

QuestionParser parser_of(const std::string& path) {
  const auto labels = std::make_shared<std::optional<std::vector<std::string>>>(read_labels(labels_path(path)));
  return [path, labels](const JsonLine& line) {
    const auto text = [&](const char* key) { return get_string(line.value, key, required, line.where); };
    return make_question(fmt::format("Question: {}\nAnswer:", text("goal")), {text("sol1"), text("sol2")},
                         label_of(line, path, *labels), line.where);
  };
}

const Registration<Task> registration{"piqa",
                                      {"choose the way that reaches a goal",
                                       {"piqa_valid.jsonl", "piqa.jsonl"},
                                       {accuracy(), normalized_accuracy()},
                                       [](const TaskInput& input) { return read_questions(input, &parser_of); }}};

}  // namespace
}  // namespace molt::eval
