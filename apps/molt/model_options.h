// Options that every subcommand with a model shares: which model, how to hold it, on how many threads.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "molt/model.h"

namespace molt::cli {

struct ModelOptions {
  std::string model;
  std::string tokenizer;
  std::string dtype = "auto";
  std::string state = "f32";
  std::string backend = "cpu";
  std::string isa;
  int threads = 0;

  /// Declares all of them; MODEL positional and required.
  void add_to(CLI::App& app);

  /// Declares how to run (dtype, state, backend, threads, isa), but no model.
  void add_run_options_to(CLI::App& app);

  /// Applies threads and instruction set, and gives the options for loading.
  LoadOptions prepare() const;

  /// prepare() and Model::load().
  Model load() const;
};

/// What --state says.
inline StateType state_type(const std::string& name) {
  return name == "bf16" ? StateType::bf16 : StateType::f32;
}

/// A check of options that count something: whole numbers from `low` on, within reason (the parser takes a number that
/// is too large for the largest).
inline CLI::Range count_from(std::int64_t low) {
  return {low, std::int64_t{1} << 48};
}

/// The whole of a file or pipe, or of standard input for "-". Throws Error.
std::string read_text(const std::string& path);

/// Text of a JSON value for standard output; bytes that are no UTF-8 (in a path, say) become U+FFFD.
std::string json_text(const nlohmann::json& value, int indent = -1);

}  // namespace molt::cli
