// What an evaluation found, for people and for programs. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "eval/evaluate.h"
#include "io/json_file.h"

namespace molt::eval {

/// Rows of cells as lines of a terminal: columns as wide as they need to be, the first one flush left.
std::string align(const std::vector<std::vector<std::string>>& rows);

/// A group's table: a row of heads, then one a setting; its first column names them.
std::vector<std::vector<std::string>> to_table(const TaskReport& task, const GroupReport& group);

/// The groups to be shown. All items together say something only where groups are alike, which a task says by having no
/// groups.
std::vector<const GroupReport*> shown_groups(const TaskReport& task);

/// "40 items from 10 documents".
std::string size_of(const GroupReport& group);

/// A table a task and group, for a terminal: figures with standard errors, changes from dense with paired ones.
std::string to_text(const Evaluation& evaluation);

/// The same as a list of tasks. What is not defined (the error of a single item) is null.
Json to_json(const Evaluation& evaluation);

/// The samples of a task (EvaluateOptions::samples) as a list: each item's requests, with every token's
/// log-probability under every setting, and what its metrics make of them. `task`: what `report` is about.
Json samples_to_json(const TaskItems& task, const TaskReport& report, const Tokenizer& tokenizer);

}  // namespace molt::eval
