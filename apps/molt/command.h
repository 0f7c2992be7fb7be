// Command: a subcommand of the molt tool. Adding one is adding a file that registers it:
//
//   namespace { const Registration<Command> registration{"name", {"one line for --help", &setup}}; }
//
// setup(app) declares the options and gives app a callback that does the work. The callback throws molt::Error for what
// the user can mend; main() prints it and exits with 2. Results go to standard output, everything else to standard
// error. A command that writes for long ends when standard output fails; main() says why.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/registry.h"

namespace molt::cli {

/// Thrown by a command that ends early, in good order, because the user asked it to (Ctrl-C).
struct Interrupted {};

struct Command {
  std::string summary;
  void (*setup)(CLI::App& app);
};

}  // namespace molt::cli
