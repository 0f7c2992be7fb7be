// What an evaluation found, for people and for programs. Pure functions.
#pragma once

#include <string>

#include "eval/evaluate.h"
#include "io/json_file.h"

namespace molt::eval {

/// A table a task and group, for a terminal: figures with standard errors, changes from dense with paired ones.
std::string to_text(const Evaluation& evaluation);

/// The same as a list of tasks. What is not defined (the error of a single item) is null.
Json to_json(const Evaluation& evaluation);

}  // namespace molt::eval
