// evaluate(): runs tasks under several settings, the dense model and reductions, on the same items, and compares.
//
// Every setting scores every prompt, and reductions are compared with the dense model item by item: differences have
// far smaller errors than the figures themselves. Contexts and windows are the same for all, so that a reduction that
// takes nothing away differs by nothing at all.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/journal.h"
#include "eval/statistics.h"
#include "eval/task.h"
#include "molt/reduction.h"

namespace molt::eval {

/// A task with what it asks.
struct TaskItems {
  std::string name;
  const Task* task;
  std::vector<Item> items;
  Problems problems = {};      // lines that were left out
  std::int64_t shortened = 0;  // items that were longer than TaskInput::max_length
};

/// Finds the tasks under `names` and reads their items. `data`: folders and files. Throws Error listing the tasks that
/// exist for an unknown one, what was looked for where a task finds no data, and what is wrong with the lines of files
/// that hold no item. `input` need not have files.
std::vector<TaskItems> read_tasks(const std::vector<std::string>& names, const std::vector<std::string>& data,
                                  TaskInput input);

/// A reduction under the name by which its user knows it.
struct Setting {
  std::string name;
  Reduction reduction;
};

/// A part of the work, for one of several processes or machines: every `count`th batch, from number `index` on.
struct Shard {
  std::size_t index = 0;  // below count
  std::size_t count = 1;
};

struct EvaluateOptions {
  std::int64_t window = 2048;  // of the session
  bool kl = false;             // divergence of next-token distributions from the dense model's
  Journal* journal = nullptr;  // or null: what it holds is not computed again, what is computed is added
  bool samples = false;        // report every item's scores, too
  Shard shard = {};            // only what it covers is scored and reported

  /// Called now and then with the tokens done and in all. False stops: what is done is reported.
  std::function<bool(std::int64_t done, std::int64_t total)> progress;
};

/// One figure of one setting.
struct Figure {
  std::string metric;
  Estimate value;
  std::optional<Estimate> change;  // from dense, paired by items; not for dense itself
};

/// One setting on one group of items.
struct Row {
  std::string setting;
  std::optional<double> cut_asked;  // not for dense
  double cut = 0;                   // of the FLOPs of the group's contexts
  double reduced = 0;               // share of items with a context of which anything was reduced
  double seconds = 0;               // reading the contexts
  std::int64_t tokens = 0;          // of the contexts, before reduction
  std::vector<Figure> figures;
};

struct GroupReport {
  std::string name;  // empty: all items
  std::vector<Row> rows;
};

/// One item's scores.
struct Sample {
  std::size_t item;                        // its number in the task
  std::vector<std::vector<Score>> scores;  // by setting, by request
};

struct TaskReport {
  std::string name;
  const Task* task;
  std::int64_t items = 0;       // scored under every setting
  std::int64_t items_read = 0;  // that there are
  std::vector<GroupReport> groups;
  std::vector<std::string> settings;  // their names, the dense model first
  std::vector<Sample> samples;        // where asked for: of the items scored
};

struct Evaluation {
  std::vector<TaskReport> tasks;
  bool complete = true;  // false: stopped before all items were scored
};

/// Throws Error for a reduction whose scope is not the prompt, for two settings of one name, and when a journal cannot
/// be written. The dense model is always run, and comes first.
Evaluation evaluate(const Model& model, const std::vector<TaskItems>& tasks, const std::vector<Setting>& settings,
                    const EvaluateOptions& options);

/// The name under which the dense model is reported.
inline constexpr const char* kDense = "dense";

}  // namespace molt::eval
