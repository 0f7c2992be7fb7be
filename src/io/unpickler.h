// A restricted reader of Python pickles: what state dicts are made of, and nothing that could run.
//
// A pickle is a program for a stack machine that may import and call anything. This machine only records: importing a
// global that is not on the caller's list is an Error that names it, and a call is kept as (callable, arguments) for
// the caller to interpret. The one callable it knows itself is collections.OrderedDict. Opcodes: those of protocols 2
// to 5 that values, containers, globals, calls and persistent ids need (Python's Lib/pickletools.py describes them).
//
// Memory grows with the pickle's size only, and no part of it recurses: no pickle can exhaust the stack.
//
// Thread-safety: a free function without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt {

/// The number of a node in a PickleGraph.
using PickleId = std::uint32_t;

struct PickleNode {
  enum class Kind : std::uint8_t {
    none,
    boolean,     // integer: 0 or 1
    integer,     // integer
    real,        // real
    text,        // text: UTF-8 as it stands, not checked
    bytes,       // text
    tuple,       // items
    list,        // items
    dict,        // items: key, value, key, value ...; a later entry replaces an earlier one of the same key
    global,      // text: "module.name"
    persistent,  // items: the id, a tuple in PyTorch's files
    call         // items: a global and a tuple of arguments
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<PickleId> items;
};

/// Nodes may be shared and may form cycles, as Python's objects.
struct PickleGraph {
  std::vector<PickleNode> nodes;
  PickleId root = 0;

  const PickleNode& operator[](PickleId id) const { return nodes[id]; }
};

/// Runs the pickle `bytes` up to its STOP. `globals`: those it may name, as "module.name". `where` begins messages.
PickleGraph unpickle(std::span<const std::byte> bytes, const std::set<std::string, std::less<>>& globals,
                     const std::string& where);

}  // namespace molt
