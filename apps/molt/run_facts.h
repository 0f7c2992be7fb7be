// What a reader of results must know to repeat them: program, model, weights, kernels, threads.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model_options.h"
#include "molt/model.h"
#include "report/page.h"

namespace molt::cli {

/// A short name to head a page with: the last part of where the model was loaded from.
std::string name_of_model(const Model& model);

/// As members of a JSON object.
nlohmann::json describe_run(const Model& model, const ModelOptions& options);

/// The same for people.
std::vector<report::Fact> run_facts(const Model& model, const ModelOptions& options);

}  // namespace molt::cli
