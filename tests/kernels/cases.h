// A case of the table that every backend runs: a call of an op, and what it wrote.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "tests/kernels/problems.h"

namespace molt::testing_kernels {

/// Every array that a call has written, and whether it wrote nowhere else.
struct Outputs {
  std::vector<Floats> arrays;
  bool intact = true;
};

struct Case {
  std::string name;
  std::function<Outputs(const Backend&)> run;
  double tolerance = 2e-6;
};

inline Outputs outputs_of(std::initializer_list<const Rows*> written) {
  Outputs outputs;
  for (const Rows* rows : written) {
    outputs.arrays.push_back(rows->values());
    outputs.intact = outputs.intact && rows->intact();
  }
  return outputs;
}

}  // namespace molt::testing_kernels
