// The page of a comparison: the dense model and reductions on one text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/page.h"
#include "report/token_map.h"

namespace molt::report {

/// How one setting read the text, and went on.
struct Compared {
  eval::PassageReading reading;                   // the dense model's has no tokens
  double seconds = 0;                             // of reading; the median
  std::optional<std::int64_t> peak_memory_bytes;  // of the process while it read, where the system tells
  std::optional<double> nll;                      // of the suffix
  std::optional<double> kl;                       // from dense, there
  std::string text;                               // what it generated
};

struct Comparison {
  std::string model;
  std::vector<Fact> facts;
  std::vector<MapToken> tokens;  // those read
  std::int64_t layers = 0;
  std::int64_t suffix_tokens = 0;  // that were scored
  std::string suffix;              // and their text
  std::vector<Compared> settings;  // the dense model first
};

/// The figures as a table: a row of heads, then one a setting.
std::vector<std::vector<std::string>> to_table(const Comparison& comparison);

std::string comparison_page(const Comparison& comparison);

}  // namespace molt::report
