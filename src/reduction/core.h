// Reduction::Core: a reduction, understood and checked against a model: what Reduction is a handle of. Immutable.
#pragma once

#include <memory>
#include <string>

#include "model/model.h"
#include "molt/reducer.h"
#include "molt/reduction.h"

namespace molt {

class Reduction::Core {
 public:
  std::shared_ptr<const ModelCore> model;
  std::string method;
  std::string text;  // the whole spec as JSON, defaults filled in
  double flops = 0;  // the cut asked for
  Reduction::Scope scope = Reduction::Scope::prompt;
  std::int64_t window = 0;         // 0: the session's
  std::int64_t protect_first = 1;  // tokens of the prompt
  std::int64_t protect_last = 1;
  Schedule schedule;               // of count-based methods; empty for others
  bool counts_by_content = false;  // MethodInfo's
  std::shared_ptr<const Reducer> reducer;
};

}  // namespace molt
