#include "io/json_file.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <vector>

#include "base/fail.h"
#include "base/mmap_file.h"
#include "io/untrusted.h"

namespace molt {
namespace {

constexpr const char* kFloatKey = "__float__";

/// JSON text in which bare non-finite numbers have been replaced, and the way back to places in the original.
struct StrictText {
  struct Replacement {
    std::size_t end;     // in the new text
    std::size_t growth;  // of everything up to `end`
  };
  std::string text;
  std::vector<Replacement> replacements;

  std::size_t original_offset(std::size_t offset) const {
    const auto after = std::upper_bound(replacements.begin(), replacements.end(), offset,
                                        [](std::size_t at, const Replacement& r) { return at < r.end; });
    return after == replacements.begin() ? offset : offset - std::prev(after)->growth;
  }
};

/// The bare non-finite number that `text` begins with, or "".
std::string_view leading_non_finite(std::string_view text) {
  for (const std::string_view word : {"Infinity", "-Infinity", "NaN"}) {
    if (text.starts_with(word)) return word;
  }
  return {};
}

StrictText replace_non_finite(std::string_view text) {
  StrictText result;
  std::size_t growth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result.text.append(text.substr(i, 2));
      i += 2;
      continue;
    }
    if (c == '"') in_string = !in_string;
    const std::string_view word = in_string ? std::string_view{} : leading_non_finite(text.substr(i));
    if (word.empty()) {
      result.text += c;
      ++i;
      continue;
    }
    const std::string spelled = fmt::format(R"({{"{}":"{}"}})", kFloatKey, word);
    result.text += spelled;
    growth += spelled.size() - word.size();
    result.replacements.push_back({result.text.size(), growth});
    i += word.size();
  }
  return result;
}

/// Builds the document from parse events, so that depth and repeated keys are checked while they arise.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const JsonOptions& options) : options_(options) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_unsigned(number_unsigned_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool string(string_t& v) override { return value(std::move(v)); }
  bool binary(binary_t&) override { return false; }  // not in text
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [slot, fresh] = open_.back()->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!fresh && !options_.duplicate_keys) {
      problem_ = fmt::format("the key {} stands twice in one object", quote(name));
      return false;
    }
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    position_ = position;
    std::string_view message = error.what();
    for (const std::string_view end_of_prefix : {"] ", ": "}) {
      // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...": our own place is better.
      const std::size_t at = message.find(end_of_prefix);
      if (end_of_prefix == ": " && !message.starts_with("parse error")) break;
      if (at != std::string_view::npos) message.remove_prefix(at + end_of_prefix.size());
    }
    problem_ = quote(message);
    problem_ = problem_.substr(1, problem_.size() - 2);
    return false;
  }

  Json take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }
  /// Bytes read when the parser gave up; 0 where it did not say.
  std::size_t position() const { return position_; }

 private:
  Json* place(Json v) {
    if (open_.empty()) {
      root_ = std::move(v);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<Json::array_t&>();
      array.push_back(std::move(v));
      return &array.back();
    }
    *slot_ = std::move(v);
    return slot_;
  }
  bool value(Json v) {
    place(std::move(v));
    return true;
  }
  bool open(Json v) {
    if (open_.size() >= static_cast<std::size_t>(options_.max_depth)) {
      problem_ = fmt::format("objects and arrays lie more than {} deep in one another", options_.max_depth);
      return false;
    }
    // The parents of an open container do not grow before it closes, so the pointers stay valid.
    open_.push_back(place(std::move(v)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const JsonOptions& options_;
  Json root_;
  std::vector<Json*> open_;
  Json* slot_ = nullptr;  // where the value of the last key goes
  std::string problem_;
  std::size_t position_ = 0;
};

std::string line_and_column(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return fmt::format("line {}, column {}", line, std::max<std::size_t>(column, 1));
}

/// The member `key`, or null where it is absent or null.
const Json* member(const Json& object, const std::string& key, const std::string& where) {
  if (!object.is_object()) fail("{}: an object with the key \"{}\" is wanted, not {}", where, key, describe(object));
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

/// A typed member, by way of `convert`, which gives an optional.
template <class T, class Convert>
T get(const Json& object, const std::string& key, std::optional<T> fallback, const std::string& where,
      std::string_view wanted, Convert convert) {
  const Json* value = member(object, key, where);
  if (value == nullptr) {
    if (fallback) return *std::move(fallback);
    fail("{}: the key \"{}\" ({}) is missing", where, key, wanted);
  }
  std::optional<T> converted = convert(*value);
  if (!converted) fail("{}: \"{}\" must be {}, not {}", where, key, wanted, describe(*value));
  return *std::move(converted);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonOptions& options) {
  StrictText strict;
  const bool replaced = options.non_finite &&
                        (text.find("Infinity") != std::string_view::npos || text.find("NaN") != std::string_view::npos);
  if (replaced) strict = replace_non_finite(text);
  const std::string_view parsed = replaced ? std::string_view(strict.text) : text;
  Builder builder(options);
  if (Json::sax_parse(parsed.begin(), parsed.end(), &builder)) return builder.take();
  if (builder.position() == 0) fail("{}: {}", where, builder.problem());
  const std::size_t offset = std::min(strict.original_offset(std::min(builder.position(), parsed.size())), text.size());
  fail("{}: not valid JSON at {}: {}", where, line_and_column(text, offset), builder.problem());
}

Json read_json_file(const std::string& path, const JsonOptions& options) {
  const auto file = MmapFile::open(path);
  const auto bytes = file->bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path, options);
}

std::optional<double> number_of(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_object() || value.size() != 1) return std::nullopt;
  const auto it = value.find(kFloatKey);
  if (it == value.end() || !it->is_string()) return std::nullopt;
  const auto& word = it->get_ref<const std::string&>();
  if (word == "Infinity") return std::numeric_limits<double>::infinity();
  if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  return std::nullopt;
}

std::optional<std::int64_t> integer_of(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (std::trunc(number) != number || !(number >= -0x1p63 && number < 0x1p63)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

std::string describe(const Json& value) {
  if (value.is_object() && number_of(value)) return value[kFloatKey].get<std::string>();
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_string()) return "the string " + quote(value.get_ref<const std::string&>());
  return value.dump();
}

std::int64_t get_int(const Json& object, const std::string& key, std::optional<std::int64_t> fallback,
                     const std::string& where, IntRange range) {
  const std::int64_t value = get(object, key, fallback, where, "an integer", integer_of);
  const bool given = member(object, key, where) != nullptr;
  if (given && (value < range.low || value > range.high)) {
    fail("{}: \"{}\" is {}; it must lie between {} and {}", where, key, value, range.low, range.high);
  }
  return value;
}

double get_double(const Json& object, const std::string& key, std::optional<double> fallback,
                  const std::string& where) {
  return get(object, key, fallback, where, "a number", number_of);
}

bool get_bool(const Json& object, const std::string& key, std::optional<bool> fallback, const std::string& where) {
  return get(object, key, fallback, where, "true or false", [](const Json& value) {
    return value.is_boolean() ? std::optional<bool>(value.get<bool>()) : std::nullopt;
  });
}

std::string get_string(const Json& object, const std::string& key, std::optional<std::string> fallback,
                       const std::string& where) {
  return get(object, key, std::move(fallback), where, "a string", [](const Json& value) {
    return value.is_string() ? std::optional<std::string>(value.get<std::string>()) : std::nullopt;
  });
}

}  // namespace molt
