// Registry<Entry>: named entries that register themselves, so that adding one is adding a file.
//
// A file defines a namespace-scope `const Registration<Entry> registration{"name", entry};`. Object files that hold
// such definitions must be linked whole (molt builds its folders as object libraries): a linker drops self-registering
// members of static archives that nothing refers to.
//
// Thread-safety: registration happens before main(); afterwards the registry is read-only.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace molt {

template <class Entry>
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  void add(std::string_view name, Entry entry) {
    MOLT_CHECK(entries_.emplace(name, std::move(entry)).second);  // two entries under one name
  }

  /// The entry under `name`, or nullptr.
  const Entry* find(std::string_view name) const {
    const auto it = entries_.find(name);
    return it == entries_.end() ? nullptr : &it->second;
  }

  /// All entries, by name.
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

template <class Entry>
struct Registration {
  Registration(std::string_view name, Entry entry) { Registry<Entry>::instance().add(name, std::move(entry)); }
};

}  // namespace molt
