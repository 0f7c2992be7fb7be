#include "reduction/spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/fail.h"
#include "base/registry.h"
#include "io/json_file.h"

namespace molt {
namespace {

constexpr std::int64_t kManyTokens = std::int64_t{1} << 40;
constexpr int kNestedDepth = 90;            // of JSON in a value; with what stands around it below what files may have
constexpr std::size_t kLongSpec = 200;      // bytes of a spec that messages repeat
constexpr std::string_view kShare = "0.3";  // of the FLOPs, cut when nothing is said

/// Insertions, removals and replacements of characters that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0U);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// " (did you mean 'utr'?)" where one of `known` is near enough.
std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
  if (word.size() > 100) return "";
  const std::string* best = nullptr;
  std::size_t least = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= least) continue;
    least = distance;
    best = &candidate;
  }
  return best == nullptr ? "" : fmt::format(" (did you mean '{}'?)", *best);
}

WrittenSpec read_text(const std::string& text) {
  const std::string shown = text.size() <= kLongSpec ? text : text.substr(0, kLongSpec) + "...";
  WrittenSpec spec{.where = fmt::format("reduction '{}'", shown), .folder = "", .method = "", .values = {}};
  const std::size_t colon = text.find(':');
  spec.method = text.substr(0, colon);
  if (colon == std::string::npos) return spec;
  std::string_view rest = std::string_view(text).substr(colon + 1);
  for (;;) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      fail("{}: key=value is wanted in place of '{}'", spec.where, item);
    }
    spec.values.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return spec;
}

/// A JSON value in the text form of specs. What has none, objects and arrays of other things than numbers, stays JSON.
std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_number_float()) return number_text(value.get<double>());
  const bool numbers = value.is_array() && !value.empty() &&
                       std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_number(); });
  if (!numbers) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::vector<std::string> parts;
  for (const Json& part : value) parts.push_back(text_of(part));
  return fmt::format("{}", fmt::join(parts, "+"));
}

WrittenSpec read_file(const std::string& path) {
  const Json json = read_json_file(path, {.non_finite = false, .duplicate_keys = false});
  WrittenSpec spec{
      .where = path, .folder = std::filesystem::path(path).parent_path().string(), .method = "", .values = {}};
  spec.method = get_string(json, "method", std::string(), path);
  if (spec.method.empty()) {
    fail("{}: the key \"method\" is missing; known methods: {}", path,
         fmt::join(Registry<MethodInfo>::instance().names(), ", "));
  }
  for (const auto& [key, value] : json.items()) {
    if (key != "method" && !value.is_null()) spec.values.emplace_back(key, text_of(value));
  }
  return spec;
}

[[noreturn]] void refuse(const WrittenSpec& spec, const OptionInfo& key, const std::string& value) {
  fail("{}: {} is '{}'; it must be {}{}", spec.where, key.name, value, expectation(key),
       key.kind == OptionInfo::Kind::choice ? suggestion(value, key.choices) : "");
}

/// The object or array that `text` holds, or the text itself: what is nested too deep to be read back stays text.
nlohmann::ordered_json nested_or_text(const std::string& text) {
  if (text.empty() || (text.front() != '{' && text.front() != '[')) return text;
  try {
    return parse_json(text, "", {.max_depth = kNestedDepth, .non_finite = false, .duplicate_keys = false});
  } catch (const Error&) {
    return text;
  }
}

/// The canonical text of one value, checked.
std::string canonical(const WrittenSpec& spec, const OptionInfo& key, const std::string& value) {
  using Kind = OptionInfo::Kind;
  switch (key.kind) {
    case Kind::choice:
      if (std::find(key.choices.begin(), key.choices.end(), value) == key.choices.end()) refuse(spec, key, value);
      return value;
    case Kind::text: return value;
    case Kind::path: {
      if (value.empty()) refuse(spec, key, value);
      const std::filesystem::path path(value);
      return path.is_absolute() || spec.folder.empty() ? value : (spec.folder / path).lexically_normal().string();
    }
    case Kind::number:
    case Kind::numbers: {
      const auto numbers = read_numbers(value);
      if (!numbers || (key.kind == Kind::number && numbers->size() != 1)) refuse(spec, key, value);
      std::vector<std::string> parts;
      for (const double number : *numbers) {
        if (!(number >= key.low && number <= key.high)) refuse(spec, key, value);
        parts.push_back(number_text(number));
      }
      return fmt::format("{}", fmt::join(parts, "+"));
    }
    case Kind::integer:
    case Kind::integers: {
      const auto integers = read_integers(value);
      if (!integers || (key.kind == Kind::integer && integers->size() != 1)) refuse(spec, key, value);
      for (const std::int64_t integer : *integers) {
        if (static_cast<double>(integer) < key.low || static_cast<double>(integer) > key.high) refuse(spec, key, value);
      }
      return fmt::format("{}", fmt::join(*integers, "+"));
    }
  }
  return value;
}

/// Values written a+b+c, each taken in by std::from_chars as all that stands before the next plus sign.
template <class T>
std::optional<std::vector<T>> read_list(std::string_view text) {
  std::vector<T> values;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    T value{};
    const auto [after, error] = std::from_chars(at, end, value);
    if (error != std::errc()) return std::nullopt;
    if constexpr (std::is_floating_point_v<T>) {
      if (!std::isfinite(value)) return std::nullopt;
    }
    values.push_back(value);
    if (after == end) return values;
    if (*after != '+') return std::nullopt;
    at = after + 1;
  }
}

}  // namespace

std::string number_text(double value) {
  return fmt::format("{}", value == 0 ? 0.0 : value);  // -0 is 0
}

std::optional<std::vector<double>> read_numbers(std::string_view text) {
  return read_list<double>(text);
}

std::optional<std::vector<std::int64_t>> read_integers(std::string_view text) {
  return read_list<std::int64_t>(text);
}

WrittenSpec read_spec(const std::string& text) {
  return text.ends_with(".json") ? read_file(text) : read_text(text);
}

const MethodInfo& find_method(const WrittenSpec& spec) {
  const auto& registry = Registry<MethodInfo>::instance();
  const MethodInfo* method = registry.find(spec.method);
  if (method == nullptr) {
    fail("{}: unknown method '{}'{}; known: {}", spec.where, spec.method, suggestion(spec.method, registry.names()),
         fmt::join(registry.names(), ", "));
  }
  return *method;
}

std::vector<OptionInfo> keys_of(const MethodInfo& method, std::int64_t layers) {
  using Kind = OptionInfo::Kind;
  std::vector<OptionInfo> keys;
  const auto last_site = static_cast<double>(layers - 2);
  if (method.removes) {
    keys.push_back({.name = "flops",
                    .kind = Kind::number,
                    .default_value = std::string(kShare),
                    .help = "the share of the layers' FLOPs to be saved",
                    .low = 0,
                    .high = 1});
  }
  if (method.removes && method.uses_schedule) {
    keys.push_back({.name = "ratio",
                    .kind = Kind::numbers,
                    .default_value = "",
                    .help = "in place of flops: the share of tokens that stays at each site, one number or one a site",
                    .low = 0,
                    .high = 1});
    keys.push_back(choice_option("ramp", {"flat", "rising", "falling", "low-to-high", "high-to-low"},
                                 "how the share removed changes from site to site (low-to-high: rising)"));
    keys.push_back({.name = "sites",
                    .kind = Kind::integers,
                    .default_value = "",
                    .help = "the blocks behind which tokens are removed, from 0 on; the paper's, scaled, when left out",
                    .low = 0,
                    .high = last_site});
  }
  keys.insert(keys.end(), method.options.begin(), method.options.end());
  if (!method.removes) return keys;
  if (method.carry) {
    keys.push_back(
        flag_option("carry", *method.carry, "whether tokens that leave pass their decay on to the next one"));
  }
  keys.push_back(integer_option("protect_first", method.protect_first, method.protect_first, kManyTokens,
                                "tokens at the prompt's begin that stay"));
  keys.push_back(integer_option("protect_last", 1, 1, kManyTokens, "tokens at its end that stay"));
  keys.push_back(
      integer_option("window", 0, 0, kManyTokens, "tokens that are reduced together; 0: as the session has it"));
  keys.push_back(
      choice_option("scope", {"prompt", "sequence"},
                    "prompt: what is scored behind the prompt runs dense; sequence: as the paper evaluates"));
  return keys;
}

KeyValues check_values(const WrittenSpec& spec, std::span<const OptionInfo> keys) {
  KeyValues values;
  for (const auto& [name, value] : spec.values) {
    const auto is_it = [&name = name](const OptionInfo& key) { return key.name == name; };
    const auto key = std::find_if(keys.begin(), keys.end(), is_it);
    if (key == keys.end()) {
      std::vector<std::string> names;
      for (const OptionInfo& known : keys) names.push_back(known.name);
      fail("{}: unknown key '{}'{}; {} has {}", spec.where, name, suggestion(name, names), spec.method,
           names.empty() ? "no keys" : fmt::format("{}", fmt::join(names, ", ")));
    }
    if (!values.emplace(name, canonical(spec, *key, value)).second) {
      fail("{}: the key '{}' stands there twice", spec.where, name);
    }
  }
  return values;
}

std::string spec_json(const std::string& method, std::span<const OptionInfo> keys, const KeyValues& values) {
  using Kind = OptionInfo::Kind;
  nlohmann::ordered_json json{{"method", method}};
  for (const OptionInfo& key : keys) {
    const auto it = values.find(key.name);
    if (it == values.end()) continue;
    const std::string& text = it->second;
    switch (key.kind) {
      case Kind::number: json[key.name] = read_numbers(text)->front(); break;
      case Kind::integer: json[key.name] = read_integers(text)->front(); break;
      case Kind::numbers: json[key.name] = *read_numbers(text); break;
      case Kind::integers: json[key.name] = *read_integers(text); break;
      case Kind::choice:
      case Kind::path: json[key.name] = text; break;
      case Kind::text: json[key.name] = nested_or_text(text); break;
    }
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string expectation(const OptionInfo& key) {
  using Kind = OptionInfo::Kind;
  const auto between = [&](std::string_view what) {
    if (key.high >= static_cast<double>(kManyTokens)) return fmt::format("{} from {} on", what, key.low);
    return fmt::format("{} between {} and {}", what, key.low, key.high);
  };
  switch (key.kind) {
    case Kind::number: return between("a number");
    case Kind::integer: return between("an integer");
    case Kind::numbers: return between("numbers, written a+b+c, each");
    case Kind::integers: return between("integers, written a+b+c, each");
    case Kind::choice: return fmt::format("{}", fmt::join(key.choices, " | "));
    case Kind::text: return "a text";
    case Kind::path: return "a file's path";
  }
  return "";
}

}  // namespace molt
