// The molt tool: finds the subcommand, runs it, turns errors into exit codes.
//
// Exit codes: 0 done, 1 a bug or a lack of memory, 2 something the user can mend, 130 interrupted.
#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <system_error>

#include "base/fail.h"
#include "command.h"
#include "help_formatter.h"
#include "molt/error.h"
#include "output.h"

namespace molt::cli {
namespace {

void run(int argc, char** argv, CLI::App& app) {
  app.name("molt");
  app.formatter(std::make_shared<HelpFormatter>());  // subcommands inherit it
  app.set_version_flag("--version", std::string("molt ") + MOLT_VERSION);
  app.require_subcommand(1);
  app.footer("`molt COMMAND --help` explains each command.");
  for (const auto& [name, command] : Registry<Command>::instance().entries()) {
    command.setup(*app.add_subcommand(name, command.summary));
  }
  if (argc > 1 && argv[1][0] != '-' && Registry<Command>::instance().find(argv[1]) == nullptr) {
    fail("unknown command '{}'; known: {}", argv[1], fmt::join(Registry<Command>::instance().names(), ", "));
  }
  app.parse(argc, argv);
  finish_standard_output();
}

int report(const char* prefix, const std::exception& error, int exit_code) {
  std::cerr << "molt: " << prefix << error.what() << "\n";
  return exit_code;
}

}  // namespace
}  // namespace molt::cli

// Only reporting an error could still throw.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  std::signal(SIGPIPE, SIG_IGN);   // a reader that goes is met where output is written, and states are still saved
  CLI::App app{"molt runs and compresses state space language models (Mamba, Mamba-2)."};
  try {
    molt::cli::run(argc, argv, app);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const molt::cli::Interrupted&) {
    return 130;
  } catch (const molt::Error& error) {
    return molt::cli::report("", error, 2);
  } catch (const std::system_error& error) {  // files and threads that the system refuses
    return molt::cli::report("", error, 2);
  } catch (const std::bad_alloc&) {
    std::cerr << "molt: out of memory: try a smaller model, --window or batch\n";
    return 1;
  } catch (const std::exception& error) {
    return molt::cli::report("internal error: ", error, 1);
  }
}
