// Where results go: checked before work begins, and when it is done.
#pragma once

#include <string>

namespace molt::cli {

/// Throws Error when a file at `path` cannot be written, so that nobody waits for a result that then has no place.
/// Changes nothing.
void check_output(const std::string& path);

/// Writes out what standard output still holds. Throws Error when that fails (a full disk); a reader that has gone
/// (`molt ... | head`) is no failure: it has what it wanted.
void finish_standard_output();

}  // namespace molt::cli
