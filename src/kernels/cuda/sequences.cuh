// SequenceTable: the sequences of a batch as kernels take them, by value: nothing has to be copied to the device first.
//
// A launch takes so many sequences as fit a kernel's parameters; larger batches take several launches.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/backend.h"

namespace molt::cuda {

struct SequenceTable {
  static constexpr int kMost = 192;

  int count = 0;
  std::int32_t offsets[kMost + 1];
  std::uint32_t keys[kMost];                  // of the rounding of states in bfloat16
  const std::uint32_t* keys_there = nullptr;  // or where they lie on the device
  void* states[kMost];                        // float or bf16

  __host__ __device__ int length(int s) const { return offsets[s + 1] - offsets[s]; }
  __device__ std::uint32_t key(int s) const { return keys_there != nullptr ? keys_there[s] : keys[s]; }
};
static_assert(sizeof(SequenceTable) < 3584, "leaves room for other parameters");

/// Calls launch(table, longest) for groups of sequences; `state(s, table slot)` fills the state in.
template <class State, class Launch>
void for_tables(Offsets offsets, State state, Launch launch) {
  const std::size_t sequences = offsets.size() - 1;
  for (std::size_t begin = 0; begin < sequences; begin += SequenceTable::kMost) {
    SequenceTable table;
    table.count = static_cast<int>(std::min<std::size_t>(SequenceTable::kMost, sequences - begin));
    int longest = 0;
    for (int s = 0; s <= table.count; ++s) {
      table.offsets[s] = static_cast<std::int32_t>(offsets[begin + static_cast<std::size_t>(s)]);
      if (s == table.count) break;
      state(begin + static_cast<std::size_t>(s), table, s);
    }
    for (int s = 0; s < table.count; ++s) longest = std::max(longest, table.length(s));
    if (longest > 0) launch(table, longest);
  }
}

/// The states of a scan.
template <class Launch>
void for_tables(const ScanRows& rows, Launch launch) {
  for_tables(
      rows.offsets,
      [&](std::size_t s, SequenceTable& table, int slot) {
        if (slot == 0 && rows.keys != nullptr) table.keys_there = rows.keys + s;
        if (rows.rounded.empty()) {
          table.states[slot] = rows.states[s];
          table.keys[slot] = 0;
        } else {
          table.states[slot] = rows.rounded[s].data;
          table.keys[slot] = rows.rounded[s].key;
        }
      },
      launch);
}

}  // namespace molt::cuda
