// Specs of reductions: "METHOD[:key=value,...]" and JSON files, read and checked against the keys that there are.
//
// Everything passes through one text form: 0.3, on, 4+6+8. Errors are molt::Error, begin with where the spec was
// written, name key and value, and list what exists. Thread-safety: free functions without state.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/reducer.h"

namespace molt {

/// A spec as somebody wrote it, not yet understood.
struct WrittenSpec {
  std::string where;   // begins messages: the file's path, or the spec itself
  std::string folder;  // what relative paths are relative to: a JSON file's; empty: the working directory
  std::string method;
  std::vector<std::pair<std::string, std::string>> values;  // key, value in text form; no key twice
};

/// Reads "METHOD[:key=value,...]", or the JSON file of that path where `text` ends in ".json".
WrittenSpec read_spec(const std::string& text);

/// The method that is asked for.
const MethodInfo& find_method(const WrittenSpec& spec);

/// All keys that a method's spec may hold on a model of `layers` blocks: those that all have, and its own.
std::vector<OptionInfo> keys_of(const MethodInfo& method, std::int64_t layers);

using KeyValues = std::map<std::string, std::string, std::less<>>;

/// The keys that `spec` names, values checked and in canonical form. No defaults are added.
KeyValues check_values(const WrittenSpec& spec, std::span<const OptionInfo> keys);

/// The whole spec as a JSON object that read_spec() understands: numbers as numbers, lists as arrays.
std::string spec_json(const std::string& method, std::span<const OptionInfo> keys, const KeyValues& values);

/// What a key's value may be: "a number between 0 and 1", "clip | l1 | l2 | signed".
std::string expectation(const OptionInfo& key);

/// The shortest text that reads back as the same number.
std::string number_text(double value);

/// Numbers written 1+2.5+3, finite ones; nothing where that is not what `text` holds.
std::optional<std::vector<double>> read_numbers(std::string_view text);
std::optional<std::vector<std::int64_t>> read_integers(std::string_view text);

}  // namespace molt
