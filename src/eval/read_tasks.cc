// Which tasks there are, and which files are theirs.
#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/fail.h"
#include "eval/evaluate.h"

namespace molt::eval {
namespace {

namespace fs = std::filesystem;

/// The files of `data` that are the task's: in folders those of its names, and files that end like one of these.
std::vector<std::string> files_of(const std::string& name, const Task& task, const std::vector<std::string>& data) {
  std::vector<std::string> files;
  for (const std::string& path : data) {
    std::error_code error;
    const bool is_folder = fs::is_directory(path, error);
    if (!is_folder && !fs::exists(path, error)) fail("--data {}: no such file or folder", path);
    for (const std::string& known : task.files) {
      const std::string file = is_folder ? (fs::path(path) / known).string() : path;
      const bool fits = is_folder ? fs::exists(file, error) : fs::path(path).extension() == fs::path(known).extension();
      if (fits && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
    }
  }
  if (files.empty()) {
    fail("{}: --data {} holds no file for it; wanted: {}, or a {} file named outright", name, fmt::join(data, ", "),
         fmt::join(task.files, " or "), fs::path(task.files.front()).extension().string());
  }
  return files;
}

}  // namespace

std::vector<TaskItems> read_tasks(const std::vector<std::string>& names, const std::vector<std::string>& data,
                                  TaskInput input) {
  std::vector<TaskItems> tasks;
  for (const std::string& name : names) {
    const Task* task = Registry<Task>::instance().find(name);
    if (task == nullptr) {
      fail("unknown task '{}'; known: {}", name, fmt::join(Registry<Task>::instance().names(), ", "));
    }
    if (std::any_of(tasks.begin(), tasks.end(), [&](const TaskItems& t) { return t.name == name; })) {
      fail("task '{}' is named twice", name);
    }
    tasks.push_back({.name = name, .task = task, .items = {}});
  }
  for (TaskItems& task : tasks) {  // names first: nobody waits for a file before hearing of a misspelt name
    input.files = files_of(task.name, *task.task, data);
    Reading reading = task.task->read(input);
    if (reading.items.empty()) {
      if (reading.problems.count() == 0) fail("{}: no items in {}", task.name, fmt::join(input.files, ", "));
      fail("{}: no line holds an item:\n{}", task.name, reading.problems.text("  "));
    }
    task.items = std::move(reading.items);
    task.problems = std::move(reading.problems);
    task.shortened = reading.shortened;
  }
  return tasks;
}

}  // namespace molt::eval
