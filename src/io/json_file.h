// JSON as model folders hold it: config.json, tokenizer.json, shard indices, safetensors headers.
//
// Python's json module writes infinite and undefined numbers as bare Infinity, -Infinity and NaN, which JSON does not
// know; newer files spell them {"__float__": "Infinity"}. parse_json turns the former into the latter, and
// number_of reads it. Nothing here lets an exception of the JSON library out: every failure is a molt::Error that
// begins with `where` (the file's path).
//
// Thread-safety: free functions without state.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace molt {

using Json = nlohmann::json;

struct JsonOptions {
  /// Objects and arrays inside one another; deeper text is refused.
  int max_depth = 100;
  /// Accept the bare words Infinity, -Infinity and NaN where a value may stand.
  bool non_finite = true;
  /// Of entries under one key the last counts, as in Python; otherwise they are refused.
  bool duplicate_keys = true;
};

/// The value that `text` holds. Throws Error naming `where`, line and column.
Json parse_json(std::string_view text, const std::string& where, const JsonOptions& options = {});

/// The value that the file at `path` holds.
Json read_json_file(const std::string& path, const JsonOptions& options = {});

/// `value` as a number: a JSON number, or either spelling of an infinite or undefined one. Nothing for anything else.
std::optional<double> number_of(const Json& value);

/// `value` as an integer: a JSON integer, or a number without a fraction such as 3.0. Nothing for anything else, and
/// for what does not fit.
std::optional<std::int64_t> integer_of(const Json& value);

/// `value` as a short text for messages.
std::string describe(const Json& value);

// Typed members of an object. A member that is absent or null gives `fallback`; without one (`required`) it is an
// Error, as is a member of another type. `where` names the file in messages.
inline constexpr std::nullopt_t required = std::nullopt;

struct IntRange {
  std::int64_t low = std::numeric_limits<std::int64_t>::min();
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
};

std::int64_t get_int(const Json& object, const std::string& key, std::optional<std::int64_t> fallback,
                     const std::string& where, IntRange range = {});
double get_double(const Json& object, const std::string& key, std::optional<double> fallback, const std::string& where);
bool get_bool(const Json& object, const std::string& key, std::optional<bool> fallback, const std::string& where);
std::string get_string(const Json& object, const std::string& key, std::optional<std::string> fallback,
                       const std::string& where);

}  // namespace molt
