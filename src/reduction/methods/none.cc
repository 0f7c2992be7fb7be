// none, or dense: removes nothing. So that tables and scripts can name the dense model like any method.
#include "molt/reducer.h"

namespace molt {
namespace {

class None final : public Reducer {
 public:
  std::vector<std::int64_t> sites() const override { return {}; }
  Plan plan(const Site& /*site*/) const override { return {}; }
};

MethodInfo info() {
  return {
      .summary = "nothing is removed",
      .uses_schedule = false,
      .removes = false,
      .make = [](const MethodInput& /*input*/) -> std::shared_ptr<const Reducer> { return std::make_shared<None>(); }};
}

const MethodRegistration none{"none", info()};
const MethodRegistration dense{"dense", info()};

}  // namespace
}  // namespace molt
