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

/// A product with `packed` [N, K], and some of its outputs: the last ones alone, and one in the middle.
inline Outputs product_outputs(const Backend& backend, const Rows& x, const PackedMatrix& packed, const float* bias) {
  const std::int64_t rows = x.matrix().rows, out = packed.out_features(), first = out / 3;
  Rows y(rows, out, 5), last(rows, out - first, 5), one(rows, 1, 2);
  backend.matmul(x.matrix(), packed, bias, y.matrix());
  backend.matmul(x.matrix(), packed, bias, last.matrix(), first);
  backend.matmul(x.matrix(), packed, bias, one.matrix(), out / 2);
  return outputs_of({&y, &last, &one});
}

}  // namespace molt::testing_kernels
