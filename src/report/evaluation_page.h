// The page of an evaluation: tables, plots of quality, time and memory against the cut, a token map.
#pragma once

#include <string>
#include <vector>

#include "eval/evaluate.h"
#include "eval/passage.h"
#include "report/page.h"
#include "report/token_map.h"

namespace molt::report {

/// A passage and how every setting read it, the dense model first.
struct PassageReport {
  std::string name;  // what it is: "the first 512 tokens of ..."
  std::vector<MapToken> tokens;
  std::int64_t layers = 0;
  std::vector<eval::PassageReading> readings;
};

/// `model`: what it is called; `facts`: all else that a reader must know to repeat the run. `passage` may have no
/// tokens. Settings that differ only in flops= are joined to one line of a plot.
std::string evaluation_page(const std::string& model, const std::vector<Fact>& facts,
                            const eval::Evaluation& evaluation, const PassageReport& passage);

/// A setting's name without how much is to be cut: "bypass:from=2" of "bypass:flops=0.3,from=2".
std::string series_name(const std::string& setting);

}  // namespace molt::report
