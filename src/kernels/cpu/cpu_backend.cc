#include "kernels/cpu/cpu_backend.h"

#include "base/registry.h"

namespace molt {
namespace {

std::shared_ptr<const Backend> make() {
  return std::make_shared<CpuBackend>();
}

const Registration<BackendFactory> registration{"cpu", make};

}  // namespace
}  // namespace molt
