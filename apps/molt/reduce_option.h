// The option --reduce, which every subcommand that reads a prompt has, and how records of reductions are printed.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "molt/reduction.h"

namespace molt::cli {

struct ReduceOption {
  std::vector<std::string> specs;
  std::vector<std::string> plugins;

  /// Declares --reduce, once or, if `several`, any number of times, and --plugin.
  void add_to(CLI::App& app, bool several = false);

  /// Makes the methods of the plugins known. Throws Error for those that cannot be loaded.
  void load_plugins() const;

  /// load_plugins(), and the reductions asked for, in order. Throws Error for specs that are wrong and plugins that
  /// cannot be loaded.
  std::vector<Reduction> make_all(const Model& model) const;

  /// The one asked for, or nothing.
  std::optional<Reduction> make(const Model& model) const;
};

/// Everything of a record: tokens, cut, counts by layer, survivors by site, the fate of each token.
nlohmann::json to_json(const ReductionRecord& record);

/// The cut and the counts alone.
nlohmann::json summary_json(const ReductionRecord& record);

}  // namespace molt::cli
