// Wanted: memory that will be read next, fetched meanwhile.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace molt::MOLT_ISA {

/// The lines of [at, end), fetched into the level-2 cache a few at a time.
struct Wanted {
  static constexpr int kLineBytes = 64;

  const char* at = nullptr;
  const char* end = nullptr;
  int lines = 0;  // at a time

  /// All of `bytes` at `from` in `times` times.
  static Wanted spread(const void* from, int64_t bytes, int64_t times) {
    const auto* const at = static_cast<const char*>(from);
    const int64_t all = (bytes + kLineBytes - 1) / kLineBytes;
    return {at, at + bytes, times > 0 ? static_cast<int>((all + times - 1) / times) : 0};
  }

  [[gnu::always_inline]] void fetch() {
    if (at >= end) return;
    for (int i = 0; i < lines; ++i) __builtin_prefetch(at + i * kLineBytes, 0, 2);
    at += lines * kLineBytes;
  }
};

}  // namespace molt::MOLT_ISA
