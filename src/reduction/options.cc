// What the keys of a method's spec may be, and what they are: the makers and readers of molt/reducer.h.
#include "base/check.h"
#include "molt/reducer.h"
#include "reduction/spec.h"

namespace molt {

OptionInfo flag_option(std::string name, bool default_value, std::string help) {
  return {.name = std::move(name),
          .kind = OptionInfo::Kind::choice,
          .default_value = default_value ? "on" : "off",
          .help = std::move(help),
          .choices = {"on", "off"}};
}

OptionInfo choice_option(std::string name, std::vector<std::string> choices, std::string help) {
  MOLT_CHECK(!choices.empty());
  const std::string first = choices.front();
  return {.name = std::move(name),
          .kind = OptionInfo::Kind::choice,
          .default_value = first,
          .help = std::move(help),
          .choices = std::move(choices)};
}

OptionInfo number_option(std::string name, double default_value, double low, double high, std::string help) {
  return {.name = std::move(name),
          .kind = OptionInfo::Kind::number,
          .default_value = number_text(default_value),
          .help = std::move(help),
          .low = low,
          .high = high};
}

OptionInfo integer_option(std::string name, std::int64_t default_value, std::int64_t low, std::int64_t high,
                          std::string help) {
  return {.name = std::move(name),
          .kind = OptionInfo::Kind::integer,
          .default_value = std::to_string(default_value),
          .help = std::move(help),
          .low = static_cast<double>(low),
          .high = static_cast<double>(high)};
}

const std::string& OptionValues::text(std::string_view name) const {
  const auto it = values_.find(name);
  MOLT_CHECK(it != values_.end());
  return it->second;
}

double OptionValues::number(std::string_view name) const {
  const std::vector<double> values = numbers(name);
  MOLT_CHECK(values.size() == 1);
  return values.front();
}

std::int64_t OptionValues::integer(std::string_view name) const {
  const std::vector<std::int64_t> values = integers(name);
  MOLT_CHECK(values.size() == 1);
  return values.front();
}

bool OptionValues::flag(std::string_view name) const {
  const std::string& value = text(name);
  MOLT_CHECK(value == "on" || value == "off");
  return value == "on";
}

std::vector<double> OptionValues::numbers(std::string_view name) const {
  const auto values = read_numbers(text(name));
  MOLT_CHECK(values);
  return *values;
}

std::vector<std::int64_t> OptionValues::integers(std::string_view name) const {
  const auto values = read_integers(text(name));
  MOLT_CHECK(values);
  return *values;
}

}  // namespace molt
