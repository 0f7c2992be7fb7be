// The most memory that this process has held.
#pragma once

#include <cstdint>

namespace molt::cli {

/// Bytes resident at the most, since the process began or since restart_peak_memory().
std::int64_t peak_memory_bytes();

/// Lets the peak count anew from what is held now. False where the system cannot (other than Linux, /proc absent): the
/// peak then stays that of the process.
bool restart_peak_memory();

}  // namespace molt::cli
