#include "kernels/reference/reference_backend.h"

#include "base/registry.h"

namespace molt {
namespace {

std::shared_ptr<const Backend> make() {
  return std::make_shared<ReferenceBackend>();
}

const Registration<BackendFactory> registration{"reference", make};

}  // namespace
}  // namespace molt
